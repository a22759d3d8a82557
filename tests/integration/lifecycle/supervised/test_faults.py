"""Processes that die, stop or hang while callers ask: what is lost is restored, and nobody gets a wrong answer."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from modelport.client import Client
from modelport.commands import status
from modelport.errors import DeadlineError, RemoteError, ServerError
from modelport.server import EmbeddedServer, connection, stubs

X = [[0.5, 0.25]]
HANG = 'import pathlib\n            while pathlib.Path("{flag}").exists(): time.sleep(0.05)'


@pytest.fixture
def flag(tmp_path):
    """While this file is there, the model `py` does not answer."""
    return tmp_path / "hang"


@pytest.fixture
def filled(shelf, flag):
    """`steady` runs in ONNX Runtime, `py` is a Python model; each has one version."""
    shelf.publish("steady")
    shelf.publish("py", python={"execute": HANG.format(flag=flag)})
    return shelf


@pytest.fixture
def service(filled, serve):
    running = serve()
    running.await_ready(20)
    return running


def after_the_fault(service, watch, hurt, within_s):
    """Not ready soon, ready again in time; gives the seconds until then."""
    started = time.monotonic()
    hurt()
    while 503 not in watch.statuses():
        assert time.monotonic() - started < within_s, "readiness stayed true"
        time.sleep(0.02)
    service.await_ready(within_s)
    return time.monotonic() - started


def refused_only(load):
    """The callers' violations, those left out that were told that the server cannot answer now."""
    allowed = ("UnavailableError", "DeadlineError")
    return [one for one in load.violations([1]) if not one.split(": ", 1)[1].startswith(allowed)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["F1-killed", "F2-stopped"])
def test_a_lost_stub_is_restored_and_nobody_gets_a_wrong_answer(
    service, watched, callers, held, number, record_property
):
    """At most an error while it is away; the other model does not notice; the same server goes on."""
    before, (stub,) = held(service), service.stubs("py")
    with watched(service) as watch, callers(service, "py") as hurt, callers(service, "steady") as other:
        took = after_the_fault(service, watch, lambda: os.kill(stub, number), 15 if number == signal.SIGKILL else 30)
        well = time.monotonic()
        hurt.wait(100)
    record_property("restored_s", took)
    assert refused_only(hurt) == [] and other.violations([1]) == []
    assert [one for one in hurt.answers if one.error and one.sent > well] == [], "it answers again"
    assert service.stubs("py") and stub not in service.stubs("py")
    assert service.kinds("py")[0] == "stub_lost" or "no_answer" in service.kinds("py")
    assert service.kinds("py").count("stub_restored") == 1 and service.kinds("steady") == []
    time.sleep(1)
    assert before.violations(held(service)) == []


def test_a_stub_that_is_lost_again_at_once_is_restored_again(service, waiting):
    """The new one dies before anybody has looked at it; after that, golden requests that fail tell."""
    for lost in range(1, 4):
        for stub in service.stubs("py"):
            os.kill(stub, signal.SIGKILL)
        waiting(lambda lost=lost: service.kinds("py").count("stub_restored") >= lost, 20, service.kinds)
    service.await_ready(20)


@pytest.mark.parametrize("deadline_s", [1, pytest.param(5, marks=pytest.mark.soak)])
def test_a_hang_is_restored(filled, serve, watched, waiting, flag, held, deadline_s):
    """A caller gets its deadline; golden requests to other models are not late meanwhile."""
    service = serve("--probe-deadline", str(deadline_s))
    service.await_ready(20)
    before = held(service)
    (old,) = service.stubs("py")
    flag.touch()
    try:
        with watched(service) as watch, Client(service.http_url, retries=0) as client:
            began = time.monotonic()
            with pytest.raises(DeadlineError):
                client.infer("py", x=X, timeout_s=0.5)
            probes = probes_of(service, "steady")
            waiting(lambda: "stub_lost" in service.kinds("py"), 28)
            lost_s = time.monotonic() - began
            assert probes_of(service, "steady") - probes >= lost_s / 2.5, "the hang of one made the other late"
            flag.unlink()
            service.await_ready(30 - lost_s)
            assert 503 in watch.statuses()
            assert client.infer("py", x=X)["y"].tolist() == [[1.0, 0.5]]
    finally:
        flag.unlink(missing_ok=True)
    assert old not in service.stubs("py")
    assert before.violations(held(service)) == []


def probes_of(service, model):
    """How many golden requests to a model were answered right."""
    lines = service.get("metrics")[1].splitlines()
    (line,) = [line for line in lines if line.startswith(f'modelport_probes_total{{model="{model}",result="ok"')]
    return float(line.split()[-1])


def test_a_model_that_has_too_much_to_do_is_not_taken_for_one_that_hangs(shelf, serve):
    """Golden requests come too late for seconds on end; the model works, and is left to it."""
    shelf.publish("busy", python={"execute": "time.sleep(0.2)"}, batch=1)
    service = serve("--probe-deadline", "0.5", "--probe-interval", "0.5")
    service.await_ready(20)
    stop = threading.Event()

    def ask(_):
        with Client(service.http_url, timeout_s=60, retries=0) as client:
            while not stop.is_set():
                assert client.infer("busy", x=X)["y"].tolist() == [[1.0, 0.5]]

    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(ask, n) for n in range(12)]
        time.sleep(12)
        late = [line for line in service.get("metrics")[1].splitlines() if 'result="late"' in line]
        stop.set()
        assert [one.result() for one in asked] == [None] * 12
    assert late and float(late[0].split()[-1]) >= 4, "negative control: golden requests were late"
    assert "stub_lost" not in service.kinds("busy")
    service.await_ready(10)


def look_until_new(root, old, seen):
    """What `status --watch` sees, until a server is there that is not the old one."""
    for found in status.watch(root, sample_s=0.2):
        seen.append(found)
        if isinstance(found, status.Status) and found.pid != old:
            return


def test_a_dead_server_comes_back_with_the_same_versions_on_the_same_ports(
    filled, service, watched, callers, held, waiting, command
):
    """F3: the old one's shared memory and stubs are gone; other commands find the new one, `status --watch` by itself.

    Version 1 of `two` was kept loaded and does not load any more: it is left out and told, so that version 2 serves.
    """
    filled.publish("two")
    filled.publish("two")
    assert command("promote", "two").returncode == 0
    waiting(lambda: service.ready("two"), 20)
    (filled.root / "two" / "1" / "model.onnx").write_bytes(b"no model")
    before, old = held(service), service.handle
    family = [process.pid for process in psutil.Process(old.server_pid).children(recursive=True)]
    versions = {model: old.ready_versions(model) for model in ("steady", "py")}
    seen, looking = [], threading.Thread(target=lambda: look_until_new(filled.root, old.server_pid, seen))
    looking.start()
    waiting(lambda: seen, 10)
    with watched(service) as watch:
        took = after_the_fault(service, watch, lambda: os.kill(old.server_pid, signal.SIGKILL), 30)
    new = service.handle
    looking.join(20)
    away = {found.what for found in seen if isinstance(found, ServerError)}
    assert any("down at this moment" in what for what in away) and seen[-1].pid == new.server_pid
    assert took < 30 and new.server_pid != old.server_pid and new.ports == old.ports
    assert {model: new.ready_versions(model) for model in versions} == versions == {"steady": (1,), "py": (1,)}
    assert (old.running(), new.ready_versions("two"), filled.named("two")) == (False, (2,), (2,))
    assert service.kinds("two").count("taken_out") == 1
    listed = command("list", "two")
    assert "it did not load, and was taken out" in " ".join(listed.stdout.split())
    assert "no version to go back to" in command("rollback", "two").stderr
    assert not [pid for pid in family if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
    assert not old.running() and new.running() and new.secret != old.secret
    assert before.violations(held(service), same_server=False) == []
    assert before.violations(held(service)) != [], "negative control: another process is seen"
    kinds = service.kinds("")
    assert kinds.index("server_died") < kinds.index("server_restarted") and service.ready()
    with callers(service, "py") as load:
        load.wait(40)
    assert load.violations([1]) == []


@pytest.mark.soak
def test_a_model_that_hangs_in_its_loading_does_not_keep_the_others_from_serving(shelf, serve, flag, waiting):
    """After 30 s the service goes on without it; `/readyz` says which one is missing, and it serves once it can."""
    shelf.publish("steady")
    shelf.publish("stuck", python={"initialize": HANG.format(flag=flag).replace("            ", "        ")})
    flag.touch()
    service = serve()
    waiting(lambda: service.ready("steady"), 20)
    status, content = service.get("readyz")
    assert (status, list(content["missing"])) == (503, ["stuck"])
    assert content["missing"]["stuck"] == "version 1 is not loaded: loading"
    assert service.kinds("stuck") == ["still_loading"]
    flag.unlink()
    service.await_ready(20)
    assert service.kinds("stuck") == ["still_loading", "loaded"]


@pytest.mark.soak
def test_a_server_that_answers_no_control_call_is_started_anew(service, waiting):
    """Its process lives, and neither calls nor the index are answered."""
    old = service.handle
    os.kill(old.server_pid, signal.SIGSTOP)
    waiting(lambda: not service.ready(), 30)
    waiting(lambda: "server_restarted" in service.kinds(""), 90)
    service.await_ready(30)
    assert not old.running() and service.handle.ready_versions("py") == (1,)


def test_without_a_supervisor_a_lost_stub_stays_lost_and_triton_calls_it_ready(filled, footprint, waiting):
    """Negative control: what the tests above see mended is broken where nobody mends it, and the checks see it."""
    with EmbeddedServer(filled.root, http_port=0, grpc_port=0, metrics_port=0) as server:
        (stub,) = stubs.find(server.handle, "py")
        os.kill(stub.pid, signal.SIGKILL)
        waiting(lambda: not stub.lives(), 5)
        time.sleep(3)
        assert stubs.find(server.handle, "py") == ()
        assert server.ready_versions("py") == (1,)
        with Client(server.http_url, retries=0) as client, pytest.raises(RemoteError):
            client.infer("py", x=X)


def test_rule_g_sees_what_is_left(service, held, changed):
    """Negative control: each of its detectors fires."""
    before = held(service)
    assert before.violations(held(service)) == []
    for name, value in (("server", 1), ("children", 99), ("shared_memory", 99), ("descriptors", 9999)):
        assert before.violations(changed(before, **{name: value})), name
    stray = Path(f"/dev/shm/modelport_test{os.getpid()}_x")
    stray.touch()
    try:
        assert before.violations(held(service), patience_s=0.5) == [f"left in /dev/shm: {stray.name}"]
    finally:
        stray.unlink()


def test_a_server_that_dies_again_and_again_ends_the_command_with_a_clear_message(filled, serve):
    """F3: not started for ever; exit code 42, and the reason in words."""
    service = serve()
    deaths, before = 0, 0
    while service.process.poll() is None:
        handle = connection.find(service.root)
        if handle is not None and handle.server_pid != before:
            before = handle.server_pid
            os.kill(before, signal.SIGKILL)
            deaths += 1
        time.sleep(0.05)
        assert deaths <= 5, "it is started again for ever"
    assert (service.process.returncode, deaths) == (42, 5)
    time.sleep(0.2)
    said = "".join(line for line in service.err if not line.startswith("{"))
    assert "died 5 times" in said and "SIGKILL" in said and "Traceback" not in said
    assert "server_given_up" in service.kinds()
    assert connection.read(connection.state_folder(service.root)) is None
