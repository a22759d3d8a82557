"""What modelport's way with versions relies on in Triton, or guards against. A new release may change it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psutil
import pytest

from modelport._process import wait_until
from modelport.errors import ServerError
from modelport.server import stubs

MIB = 2**20


@pytest.fixture
def serve(serve):
    """Servers whose ONNX models have processes of their own: another process tells that a version was loaded anew."""
    return partial(serve, isolated=True)


def pids(server, model):
    """Version -> process numbers of the living stubs."""
    found = {}
    for stub in stubs.find(server.handle, model):
        found.setdefault(stub.version, set()).add(stub.pid)
    return found


def alone(server, model, version):
    """Wait until a version has one stub only; that one's number."""
    assert wait_until(lambda: len(pids(server, model).get(version, ())) == 1, timeout_s=10)
    (pid,) = pids(server, model)[version]
    return pid


# What is loaded anew


def test_comments_and_new_version_folders_reload_nothing(models, serve):
    """The record is a comment, and publishing adds a folder: a version that serves is not touched by either."""
    models.put("m", (1, 2), serve=(1,))
    server = serve()
    before = pids(server, "m")
    for comment in ("# modelport: {}\n", "# modelport: {}\n# more\n", ""):
        models.config("m", [1], before=comment)
        assert server.load("m") == (1,)
    models.version("m", 3)
    (models.root / "m" / "2" / "card.md").write_text("new")
    assert server.load("m") == (1,)
    time.sleep(1)
    assert pids(server, "m") == before


def test_a_version_taken_in_or_out_reloads_no_other(models, serve, ask):
    models.put("m", (1, 2), serve=(1,))
    server = serve()
    first = alone(server, "m", 1)
    models.config("m", [1, 2])
    assert server.load("m") == (1, 2) and ask(server, "m", 10) == 12
    models.config("m", [1])
    server.load("m")
    assert ask(server, "m", 10) == 11, "from the answer of the load on"
    assert alone(server, "m", 1) == first


def test_a_changed_file_reloads_its_own_version_only_and_one_in_the_models_folder_all(models, serve):
    models.put("m", (1, 2))
    server = serve()
    first, second = alone(server, "m", 1), alone(server, "m", 2)
    (models.root / "m" / "2" / "card.md").write_text("new")
    server.load("m")
    assert alone(server, "m", 1) == first and alone(server, "m", 2) != second
    second = alone(server, "m", 2)
    (models.root / "m" / "notes.txt").write_text("new")
    server.load("m")
    assert alone(server, "m", 1) != first and alone(server, "m", 2) != second


def test_a_stray_folder_reloads_all_versions_unless_its_name_has_a_leading_zero(models, serve):
    models.put("m")
    server = serve()
    for name, again in (("003", False), ("3.tmp", True)):
        before = alone(server, "m", 1)
        shutil.copytree(models.root / "m" / "1", models.root / "m" / name)
        server.load("m")
        assert (alone(server, "m", 1) != before) == again, name


def test_labels_may_be_in_a_version_folder_and_are_those_of_every_version(models, serve):
    """`label_filename` is a path from the model's folder; a version has no labels of its own."""
    models.put("m", (1, 2))
    (models.root / "m" / "2" / "labels.txt").write_text("one\n")
    models.config("m", [1, 2], output='label_filename: "2/labels.txt"')
    server = serve()
    for version in (1, 2):
        body = {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}],
            "outputs": [{"name": "y", "parameters": {"classification": 1}}],
        }
        connection = http.client.HTTPConnection(server.http_url.partition("://")[2], timeout=10)
        connection.request("POST", f"/v2/models/m/versions/{version}/infer", body=json.dumps(body))
        answer = json.loads(connection.getresponse().read())
        connection.close()
        assert answer["outputs"][0]["data"] == [f"{1 + version}.000000:0:one"]


# Loads that fail or are slow


def test_a_version_that_does_not_load_leaves_those_that_serve_alone(models, serve, ask, holding, settled):
    models.put("m", (1, 2), serve=(1,))
    (models.root / "m" / "2" / "model.onnx").write_bytes(b"not a model")
    server = serve()
    before, first = holding(server), pids(server, "m")
    for wanted in ([1, 2], [2]):
        models.config("m", wanted)
        with pytest.raises(ServerError, match="did not load"):
            server.load("m")
        assert server.ready_versions("m") == (1,) and ask(server, "m", 10) == 11
    models.config("m", [1])
    assert server.load("m") == (1,)
    assert pids(server, "m") == first
    assert settled(server, before).fits(before)


def test_a_slow_load_keeps_nobody_waiting(models, serve, ask):
    models.put("m", (1, 2), serve=(1,))
    models.put("late")
    models.python("slow", 1, initialize="time.sleep(4)")
    models.config("slow", [1], backend="python")
    server = serve(models=["m"])
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(server.load, "slow")
        time.sleep(0.5)
        started = time.monotonic()
        assert ask(server, "m", 10) == 11
        assert server.handle.live()
        assert [state.state for state in server.index() if state.model == "slow"] == ["LOADING"]
        assert server.load("late") == (1,)
        models.config("m", [1, 2])
        assert server.load("m") == (1, 2)
        assert ask(server, "m", 10) == 12
        assert time.monotonic() - started < 3 and not slow.done()
        assert slow.result() == (1,)


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("cycles", [5, pytest.param(60, marks=pytest.mark.soak)])
def test_versions_that_come_and_go_do_not_fill_the_server(models, serve, ask, holding, settled, cycles, isolated):
    """Measured: 1.5 MiB after 60 rounds of a version beside another and of a trial."""
    models.put("m", (1, 2), serve=(1,))
    server = serve(isolated=isolated)
    process, before = psutil.Process(server.pid), holding(server)
    trial = server.handle.trial
    used = process.memory_info().rss
    for _ in range(cycles):
        models.config("m.trial", [2], root=trial)
        (trial / "m.trial" / "2").symlink_to(models.root / "m" / "2")
        server.load("m.trial")
        server.unload("m.trial")
        shutil.rmtree(trial / "m.trial")
        models.config("m", [1, 2])
        server.load("m")
        assert ask(server, "m", 10) == 12
        models.config("m", [1])
        server.load("m")
    assert settled(server, before).fits(before)
    assert process.memory_info().rss - used < 16 * MIB


# Stubs


def test_a_stub_that_stood_still_for_a_second_and_goes_on_ends_the_server(models, serve, ask, stub_of):
    """The reason why a stopped stub is killed, never continued."""
    models.put("m")
    server = serve()
    pid = stub_of(server, "m")
    os.kill(pid, signal.SIGSTOP)
    time.sleep(1.5)
    os.kill(pid, signal.SIGCONT)
    assert ask(server, "m", 10) == 11, "nobody asked meanwhile: it goes on"
    os.kill(pid, signal.SIGSTOP)
    assert "is not healthy" in ask(server, "m", 20)
    os.kill(pid, signal.SIGCONT)
    with pytest.raises(OSError):
        for x in range(5):
            assert ask(server, "m", x) == x + 1, "never a wrong answer"
    assert wait_until(lambda: not server.running, timeout_s=5)


def test_the_index_forgets_a_model_whose_folder_is_gone_before_it_is_unloaded(models, serve):
    """The reason why an unload waits for the stubs as well, and comes before the folder goes."""
    models.put("m")
    models.put("other")
    server = serve()
    (models.root / "m").rename(models.root.parent / "away")
    assert "m" not in {state.model for state in server.index()}
    assert stubs.find(server.handle, "m")
    server.unload("m")
    assert not stubs.find(server.handle, "m")
