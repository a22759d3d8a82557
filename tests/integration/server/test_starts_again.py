"""A server that died, or whose parent was killed: the next start finds its ports free, and nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import psutil
import pytest

from modelport._process import wait_until
from modelport.errors import ModelNotFoundError
from modelport.server import EmbeddedServer, connection, runs, shared_memory
from modelport.server.process_id import ProcessId

PARENT = """
import sys, time
from dataclasses import replace
from modelport.server import EmbeddedServer, connection
from modelport.server.process_id import ProcessId
server = EmbeddedServer(sys.argv[1], http_port=0, grpc_port=0, metrics_port=0, isolated=True).start()
connection.write(server.state_dir, replace(server.handle, supervisor=ProcessId.of()))
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def serve(serve):
    """Servers whose ONNX models have processes of their own: there is more that could be left."""
    return partial(serve, isolated=True)


@pytest.fixture
def parent(models):
    """`parent()`: another process that keeps a server for `models`."""
    started = []

    def start():
        process = subprocess.Popen([sys.executable, "-c", PARENT, models.root], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
    runs.clear_stale(connection.state_folder(models.root))


def died(server):
    assert wait_until(lambda: not server.running, timeout_s=5)


@pytest.mark.parametrize("isolated", [False, True])
def test_a_server_that_died_starts_again_on_the_same_ports_with_the_same_versions(models, serve, ask, isolated):
    models.put("a", (1, 2, 3), serve=(1, 3))
    models.python("b", 1)
    models.config("b", [1], backend="python")
    server = serve(isolated=isolated)
    urls, first = (server.http_url, server.grpc_url, server.metrics_url), server.handle
    assert ask(server, "a", 10) == 13
    for _ in range(2):
        prefix = server.handle.shm_prefix
        os.kill(server.pid, signal.SIGKILL)
        died(server)
        assert shared_memory.entries(prefix), "negative control: a killed server leaves its shared memory"
        server.start()
        assert not shared_memory.entries(prefix)
        assert (server.http_url, server.grpc_url, server.metrics_url) == urls
        assert (server.ready_versions("a"), server.ready_versions("b")) == ((1, 3), (1,))
        assert ask(server, "a", 10) == 13
    assert server.handle.secret != first.secret and not first.running() and server.handle.running()


def test_each_start_asks_anew_which_models_to_load(models, serve):
    models.put("a")
    wanted = ["a"]
    server = serve(models=lambda: wanted)
    models.put("b")
    wanted.append("b")
    os.kill(server.pid, signal.SIGKILL)
    died(server)
    server.start()
    assert server.ready_versions("b") == (1,)
    wanted[:] = ["absent"]
    server.stop()
    with pytest.raises(ModelNotFoundError):
        server.start()


def test_a_server_whose_parent_was_killed_is_found_answers_and_is_ended_by_the_next_start(models, serve, parent, ask):
    models.put("a")
    process = parent()
    state = connection.state_folder(models.root)
    handle = connection.find(models.root)
    assert handle.supervisor.pid == process.pid and handle.supervisor.lives()
    assert handle.ready_versions("a") == (1,)
    assert runs.clear_stale(state) == (), "its parent lives"
    process.kill()
    process.wait()
    assert connection.find(models.root) == handle, "negative control: the server outlives its parent"
    assert not handle.supervisor.lives()
    family = {handle.server_pid, *(child.pid for child in psutil.Process(handle.server_pid).children())}
    server = serve(**{f"{purpose.lower()}_port": port for purpose, port in handle.ports.items()})
    assert not [pid for pid in family if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
    assert not shared_memory.entries(handle.shm_prefix)
    assert not handle.running() and connection.find(models.root) is None
    assert [folder.name for folder in (state / runs.RUNS).iterdir()] == [server.handle.shm_prefix.strip("_")]
    assert ask(server, "a", 10) == 11


def test_a_stopped_server_and_its_stopped_stubs_are_ended_as_well(models, parent):
    models.put("a")
    process = parent()
    handle = connection.find(models.root)
    for child in (psutil.Process(handle.server_pid), *psutil.Process(handle.server_pid).children()):
        child.suspend()
    process.kill()
    process.wait()
    (cleared,) = runs.clear_stale(connection.state_folder(models.root))
    assert handle.server_pid in cleared.processes and len(cleared.processes) == 2
    assert len(cleared.shared_memory) == 1
    assert not handle.running()


def test_a_server_that_died_with_its_parent_leaves_stubs_and_memory_to_clear(models, parent):
    models.put("a")
    process = parent()
    handle = connection.find(models.root)
    process.kill()
    process.wait()
    os.kill(handle.server_pid, signal.SIGKILL)
    assert wait_until(lambda: not handle.running(), timeout_s=5)
    assert connection.find(models.root) is None
    (cleared,) = runs.clear_stale(connection.state_folder(models.root))
    assert handle.server_pid not in cleared.processes
    assert not shared_memory.entries(handle.shm_prefix), "removed, unless the stub saw the end and did it itself"
    assert runs.clear_stale(connection.state_folder(models.root)) == ()


def test_two_parents_leave_each_others_servers_alone(models, serve, parent):
    models.put("a")
    parent()
    handle = connection.find(models.root)
    server = serve()
    assert handle.running() and handle.ready_versions("a") == (1,)
    assert server.handle.trial != handle.trial
    server.stop()
    assert handle.running() and handle.trial.is_dir()


def test_a_trial_model_loads_from_a_link_beside_the_real_one_and_leaves_nothing(models, serve, ask, holding, settled):
    models.put("a", (1, 2), serve=(1,))
    server = serve()
    before = holding(server)
    models.config("a.trial", [2], root=server.handle.trial)
    link = server.handle.trial / "a.trial" / "2"
    link.symlink_to(models.root / "a" / "2")
    assert server.load("a.trial") == (2,)
    assert (ask(server, "a.trial", 10), ask(server, "a", 10)) == (12, 11)
    assert not holding(server).fits(before), "negative control"
    server.unload("a.trial")
    assert holding(server).stubs == before.stubs, "the unload waits for the stub"
    link.unlink()
    assert settled(server, before).fits(before)
    assert {state.model for state in server.index() if state.ready} == {"a"}
    folder = server.handle.trial
    server.stop()
    assert not folder.exists() and (models.root / "a" / "2" / "model.onnx").is_file()


def test_a_handle_that_was_written_controls_the_server(models, serve, tmp_path):
    models.put("a")
    server = serve()
    connection.write(
        server.state_dir, replace(server.handle, supervisor=ProcessId.of(), health_url="http://127.0.0.1:1")
    )
    found = connection.find(models.root)
    models.put("b")
    assert found.load("b") == (1,)
    assert found.policy("b") == (1,)
    (counters,) = found.statistics("b")
    assert counters["name"] == "b" and "inference_stats" in counters
    found.unload("b")
    assert found.ready_versions("b") == ()
    assert server.handle.secret not in server.log.read_text()
    connection.remove(server.state_dir, found)
    assert connection.find(models.root) is None


def test_a_start_that_fails_leaves_no_run(models):
    models.put("a")
    (models.root / "a" / "1" / "model.onnx").write_bytes(b"")
    server = EmbeddedServer(models.root, http_port=0, grpc_port=0, metrics_port=0)
    for _ in range(2):
        with pytest.raises(Exception, match="none of the models loaded"):
            server.start()
    assert not list((server.state_dir / runs.RUNS).iterdir())


def test_the_start_says_what_it_cleared(models, serve, parent, caplog):
    models.put("a")
    process = parent()
    process.kill()
    process.wait()
    time.sleep(0.1)
    serve()
    assert "cleared what a killed service left: ended processes" in caplog.text
