"""`modelport serve` over its life: what it loads, what it tells, who may run it, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

from modelport.client import Client
from modelport.commands.serve import serve as serve_in_python
from modelport.repository import config as configs
from modelport.repository import events, lock
from modelport.repository.layout import config_path
from modelport.server import connection, runs, shared_memory

X = [[0.5, 0.25]]


def modelport(*words, **options):
    command = [sys.executable, "-m", "modelport", *map(str, words)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, **options)


def figures(service):
    """The samples of /metrics: name and labels -> value."""
    families = text_string_to_metric_families(service.get("metrics")[1])
    return {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}


def slowest(client, model, stop, found):
    """Ask on one connection until `stop`; the seconds of each request go to `found`."""
    while not stop.is_set():
        began = time.monotonic()
        client.infer(model, x=X)
        found.append(time.monotonic() - began)
        time.sleep(0.01)


# What is loaded


@pytest.mark.parametrize("seconds", [3, pytest.param(10, marks=pytest.mark.soak)])
def test_readiness_stays_true_while_the_next_version_loads_slowly(shelf, serve, watched, command, seconds):
    """B4: and requests on open connections are answered all the while, which a load over HTTP would stop."""
    shelf.publish("slow", python={})
    shelf.publish("slow", python={"initialize": f"time.sleep({seconds})"})
    service = serve()
    service.await_ready(20)
    stop, times = threading.Event(), []
    with Client(service.http_url, retries=0) as client, watched(service) as watch, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(slowest, client, "slow", stop, times)
        began = time.monotonic()
        done = command("promote", "slow")
        took = time.monotonic() - began
        stop.set()
        asking.result()
        assert done.returncode == 0, done.stderr
        assert client.infer("slow", x=X)["y"].tolist() == [[2.0, 0.5]]
        time.sleep(2)
    assert took > seconds and watch.statuses() == {200}, service.kinds()
    assert len(watch.seen) > 10 * seconds and max(times) < seconds / 2
    assert "promoted" in service.kinds("slow") and figures(service)["modelport_promotions_total",] == 1
    assert figures(service)["modelport_serving_version", "slow"] == 2


def test_a_load_over_http_stops_open_connections(shelf, serve):
    """Negative control of the test above, and the reason why modelport loads over gRPC."""
    shelf.publish("open")
    shelf.publish("other", python={"initialize": "time.sleep(3)"})
    service = serve("--model", "open")
    stop, times = threading.Event(), []
    with Client(service.http_url, retries=0) as client, ThreadPoolExecutor(1) as pool:
        client.infer("open", x=X)
        asking = pool.submit(slowest, client, "open", stop, times)
        time.sleep(0.5)
        request = urllib.request.Request(
            f"{service.http_url}/v2/repository/models/other/load", data=b"{}", headers=service.handle.http_headers
        )
        assert urllib.request.urlopen(request, timeout=30).status == 200
        stop.set()
        asking.result()
    assert max(times) > 1.5


def test_what_is_published_meanwhile_is_loaded(shelf, serve, watched, waiting):
    """The first version of a new model serves without a command; the others stay ready meanwhile."""
    shelf.publish("first")
    service = serve()
    service.await_ready(20)
    with watched(service) as watch, Client(service.http_url, retries=0) as client:
        shelf.publish("second", python={"initialize": "time.sleep(1)"})
        waiting(lambda: service.ready("second"), 20, service.kinds)
        assert client.infer("second", x=X)["y"].tolist() == [[1.0, 0.5]]
    assert watch.statuses() == {200}
    assert "loaded" in service.kinds("second")


def test_a_version_that_is_wanted_and_does_not_load_is_told_and_the_old_one_serves(shelf, serve, waiting):
    shelf.publish("torn")
    shelf.publish("torn", operator="Nonsense")
    service = serve()
    service.await_ready(20)
    with lock.model(shelf.root, "torn"):
        name_versions(shelf, "torn", 1, 2)
        time.sleep(2.5)
        assert service.kinds("torn") == [], "not while somebody holds the model"
        assert service.ready("torn")
    waiting(lambda: "load_failed" in service.kinds("torn") and not service.ready("torn"), 20)
    status, content = service.get("readyz")
    assert status == 503 and "version 1 serves, version 2 is wanted" in content["missing"]["torn"]
    found = figures(service)
    assert (found["modelport_wanted_version", "torn"], found["modelport_serving_version", "torn"]) == (2, 1)
    with Client(service.http_url, retries=0) as client:
        assert client.infer("torn", x=X)["y"].tolist() == [[1.0, 0.5]]
    name_versions(shelf, "torn", 1)
    service.await_ready(20)
    assert service.kinds("torn").count("load_failed") == 1


def name_versions(shelf, model, *versions):
    """Change the policy as somebody with an editor would."""
    path = config_path(shelf.root, model)
    config = configs.read(path)
    configs.set_versions(config, versions)
    path.write_text(configs.text(config))


def test_a_killed_promotion_is_taken_back_and_its_trial_unloaded(shelf, serve, waiting):
    shelf.publish("cut", python={})
    shelf.publish("cut", python={"initialize": "time.sleep(5)"})
    service = serve()
    service.await_ready(20)
    command = [sys.executable, "-m", "modelport", "promote", "cut", "--repository", str(shelf.root)]
    promote = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        waiting(lambda: list(service.handle.trial.iterdir()), 20)
        time.sleep(1)
    finally:
        promote.kill()
        promote.wait()
    waiting(lambda: not list(service.handle.trial.iterdir()), 30)
    on_trial = [s for s in service.handle.index() if s.model == "cut.trial"]
    assert [s.state for s in on_trial if s.state not in ("", "UNAVAILABLE")] == []
    assert service.ready() and service.handle.ready_versions("cut") == (1,)


def test_a_wrong_answer_is_told_and_not_hidden(shelf, serve, waiting, command):
    """The version loads and answers, and not as its source did: not ready, the others are."""
    shelf.publish("liar", golden=7)
    shelf.publish("honest")
    service = serve()
    waiting(lambda: "wrong_answer" in service.kinds("liar"), 20)
    assert service.get("readyz/liar")[0] == 503 and service.get("readyz/honest")[0] == 200
    status, content = service.get("readyz")
    assert status == 503 and list(content["missing"]) == ["liar"] and "largest error" in content["missing"]["liar"]
    found = figures(service)
    assert (found["modelport_probe_success", "1", "liar"], found["modelport_probe_success", "1", "honest"]) == (0, 1)
    assert (found["modelport_ready",], found["modelport_model_ready", "honest"]) == (0, 1)
    shown = command("status")
    assert shown.returncode == 0 and "not ready" in shown.stdout and "wrong: 'liar'" in shown.stdout


@pytest.mark.soak
def test_a_model_that_cannot_be_restored_is_left_alone_and_the_others_go_on(shelf, serve, waiting):
    """Five tries, with longer and longer waits; tried again when its files change."""
    shelf.publish("gone", python={})
    shelf.publish("here")
    service = serve()
    service.await_ready(20)
    program = shelf.root / "gone" / "1" / "model.py"
    text = program.read_text()
    program.write_text("raise RuntimeError('broken on purpose')\n")
    os.kill(service.stubs("gone")[0], signal.SIGKILL)
    waiting(lambda: "restore_given_up" in service.kinds("gone"), 90)
    assert service.kinds("gone").count("restore_failed") == 5
    assert service.get("readyz/gone")[0] == 503 and service.get("readyz/here")[0] == 200
    found = figures(service)
    assert (found["modelport_lost_stubs", "gone"], found["modelport_lost_stubs", "here"]) == (1, 0)
    time.sleep(5)
    assert service.kinds("gone").count("restore_failed") == 5
    program.write_text(text)
    os.utime(shelf.root / "gone" / "config.pbtxt")
    waiting(lambda: service.ready("gone"), 60)
    assert figures(service)["modelport_lost_stubs", "gone"] == 0


def test_a_server_of_a_script_is_found_as_well_and_the_first_one_stays_known(shelf):
    """`with modelport.serve(...)`: `modelport promote` and others talk to it; nobody watches over it."""
    shelf.publish("one")
    free = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
    with serve_in_python(shelf.root, **free) as server:
        assert connection.find(shelf.root) == server.handle
        with serve_in_python(shelf.root, **free):
            assert connection.find(shelf.root) == server.handle
        assert connection.find(shelf.root) == server.handle
        found = json.loads(modelport("status", "--json", "--repository", shelf.root).stdout)
        assert (found["pid"], found["ready"], found["supervisor"]) == (server.pid, None, None)
    assert connection.find(shelf.root) is None and connection.read(connection.state_folder(shelf.root)) is None


# What it tells


def test_its_pages_metrics_and_events_can_be_read_by_programs(shelf, serve, waiting):
    shelf.publish("told")
    service = serve("--model", "told")
    service.await_ready(20)
    assert service.get("healthz") == (200, {"supervisor": True, "server": True, "restarts": 0})
    assert service.get("readyz")[1] == {"ready": True, "missing": {}, "models": ["told"]}
    assert service.get("readyz/nobody")[0] == 404 and service.get("nothing")[0] == 404
    found = figures(service)
    assert found["modelport_server_up",] == found["modelport_ready",] == found["modelport_loaded", "1", "told"] == 1
    assert found["modelport_server_restarts_total",] == found["modelport_dead_stubs",] == 0
    assert found.get(("modelport_stubs", "1", "told")) == (None if service.handle.inside else 1)
    assert found["modelport_probe_latency_seconds", "1", "told"] > 0
    assert found["modelport_events_total", "server_started"] == 1
    (versions,) = (labels for name, *labels in found if name == "modelport_build_info")
    with urllib.request.urlopen(f"{service.handle.http_url}/v2", timeout=5) as answer:
        assert json.loads(answer.read())["version"] in versions, "what the server itself tells"
    assert found["modelport_drops_total", "accepted"] == found["modelport_drops_total", "refused"] == 0
    (secret,) = service.handle.http_headers.values()
    assert secret not in json.dumps(service.get("status")[1]) + "".join(service.err) + "".join(service.out)
    waiting(lambda: service.kinds() == ["server_started", "ready"], 5)
    assert [event.kind for event in events.latest(shelf.root, 50)] == ["server_started", "ready"]
    assert all({"at", "kind", "text", "level"} <= set(json.loads(line)) for line in service.err)


def test_status_shows_rates_and_errors_of_what_is_asked(shelf, serve, callers, command):
    shelf.publish("asked", python={})
    service = serve("--model", "asked")
    service.await_ready(20)
    with callers(service, "asked", pause_s=0.01):
        found = json.loads(command("status", "--json", "--sample", "2").stdout)
    (version,) = found["versions"]
    assert (version["state"], version["ready"], version["stubs"], version["instances"]) == ("serving", True, 1, 1)
    assert figures(service)["modelport_stubs", "1", "asked"] == 1
    rates = version["rates"]
    assert rates["requests_per_s"] > 5 and rates["errors_per_s"] == 0
    assert 1 <= rates["mean_batch"] <= 8 and 0 < rates["latency_ms"] < 1000 and version["probe_ms"] > 0
    assert found["ready"] and found["pid"] == service.handle.server_pid and found["supervisor"] == service.pid
    words = ("status", "--watch", "--json", "--sample", "0.5", "--repository", str(shelf.root))
    with subprocess.Popen([sys.executable, "-m", "modelport", *words], stdout=subprocess.PIPE, text=True) as watching:
        first, second = (json.loads(watching.stdout.readline()) for _ in range(2))
        watching.terminate()
    assert second["uptime_s"] > first["uptime_s"], "a line each"
    quiet = second["versions"][0]["rates"]
    assert quiet["requests_per_s"] < 5, "golden requests only"


def test_status_without_a_server_is_one_clear_error(tmp_path):
    (tmp_path / "models").mkdir()
    done = modelport("status", "--repository", tmp_path / "models")
    assert done.returncode == 40 and "no server runs" in done.stderr and "modelport serve" in done.stderr


# Who may run it, and how it ends


def test_a_second_one_is_refused_and_names_the_first(shelf, serve):
    shelf.publish("one")
    service = serve("--model", "one")
    done = modelport("serve", "--http-port", 0, "--grpc-port", 0, "--metrics-port", 0, "--repository", shelf.root)
    assert done.returncode == 40 and f"process {service.pid} at {service.http_url}" in done.stderr
    assert service.ready() or service.await_ready(20) is None


def test_a_taken_health_port_is_one_clear_error(shelf, serve):
    shelf.publish("one")
    service = serve("--model", "one")
    port = service.health_url.rpartition(":")[2]
    words = ["--http-port", 0, "--grpc-port", 0, "--metrics-port", 0, "--health-port", port]
    root = shelf.root.with_name("elsewhere")
    shutil.copytree(shelf.root, root, dirs_exist_ok=True)
    done = modelport("serve", *words, "--repository", root)
    assert done.returncode == 41 and f"port {port} for health is taken" in done.stderr


def test_what_a_killed_supervisor_leaves_is_cleared_by_the_next(shelf, serve, waiting, command):
    """SIGKILL leaves the server running and known; the next start ends it and takes its place."""
    shelf.publish("one", python={})
    first = serve("--model", "one")
    old = first.handle
    first.process.kill()
    first.process.wait()
    assert old.running() and shared_memory.entries(old.shm_prefix), "negative control: it is left"
    found = json.loads(command("status", "--json").stdout)
    assert (found["pid"], found["supervisor"], found["ready"]) == (old.server_pid, None, None)
    second = serve("--model", "one")
    second.await_ready(20)
    waiting(lambda: not old.running(), 10)
    assert runs.processes(old.shm_prefix) == [] and shared_memory.entries(old.shm_prefix) == []
    assert second.handle.running() and connection.find(shelf.root) == second.handle


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_accepted_requests_are_answered_and_nothing_is_left(shelf, serve, number):
    """B5: 20 requests on the way when the signal comes; all answered right, exit code 0."""
    shelf.publish("drained", python={"execute": "time.sleep(0.1)"}, batch=1)
    service = serve("--model", "drained")
    service.await_ready(20)
    handle = service.handle

    def ask(_):
        with Client(service.http_url, timeout_s=30, retries=0) as client:
            return client.infer("drained", x=X)["y"].tolist()

    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(ask, n) for n in range(20)]
        time.sleep(0.7)
        began = time.monotonic()
        assert service.stop(number) == 0
        took = time.monotonic() - began
        answers = [one.result() for one in asked]
    assert answers == [[[1.0, 0.5]]] * 20 and took < 15
    assert service.kinds()[-2:] == ["stopping", "stopped"]
    assert not handle.running() and shared_memory.entries(handle.shm_prefix) == []
    assert connection.read(connection.state_folder(shelf.root)) is None


def test_a_second_signal_hurries(shelf, serve, waiting):
    """The first waits for a request that takes a minute; the second does not."""
    shelf.publish("minute", python={"execute": "time.sleep(0 if x[0, 0] < 0.9 else 60)"}, batch=1)
    service = serve("--model", "minute")
    service.await_ready(20)
    handle = service.handle
    with Client(service.http_url, timeout_s=5, retries=0) as client, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.infer, "minute", x=[[0.99, 0]])
        time.sleep(0.5)
        service.process.send_signal(signal.SIGTERM)
        waiting(lambda: "stopping" in service.kinds(), 5)
        time.sleep(1)
        assert service.process.poll() is None, "negative control: it waits"
        began = time.monotonic()
        assert service.stop(signal.SIGTERM) == 0
        assert time.monotonic() - began < 6
        assert asked.exception() is not None
    assert not handle.running() and shared_memory.entries(handle.shm_prefix) == []
