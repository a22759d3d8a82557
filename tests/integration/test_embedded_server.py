"""The embedded server as a process: what it opens, what it refuses, how it fails, and that nothing is left behind."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from onnx import helper
from tritonclient.grpc import service_pb2, service_pb2_grpc

from modelport.errors import (
    EnvironmentUnfitError,
    InvalidNameError,
    ModelNotFoundError,
    PortTakenError,
    RepositoryError,
    ServerDiedError,
    ServerError,
    ServerTimeoutError,
    VersionNotFoundError,
)
from modelport.server import EmbeddedServer, ports, shared_memory
from modelport.server.secret import visible

FREE = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
X = np.array([[1, 2], [3, 4]], np.float32)
DOUBLE = """
return [
    pb_utils.InferenceResponse([pb_utils.Tensor("y", 2 * pb_utils.get_input_tensor_by_name(r, "x").as_numpy())])
    for r in requests
]
"""


def neg(make_graph):
    return make_graph([helper.make_node("Neg", ["x"], ["y"])], "x:FLOAT[n,2]", "y:FLOAT[n,2]")


def put(zoo, make_graph, name, config="x:FP32[2]"):
    return zoo.onnx(name, config, "y:FP32[2]", neg(make_graph))


@pytest.fixture(scope="module")
def server(zoo, make_graph):
    """A server with one good model, one that cannot load, and three that fail while answering."""
    put(zoo, make_graph, "good")
    put(zoo, make_graph, "broken", "x:FP64[2]")
    zoo.python("double", "x:FP32[2]", "y:FP32[2]", DOUBLE)
    zoo.python("raises", "x:FP32[2]", "y:FP32[2]", "raise ValueError('on purpose')")
    zoo.python("exits", "x:FP32[2]", "y:FP32[2]", "os._exit(3)")
    with EmbeddedServer(zoo.root, **FREE) as running:
        yield running


@pytest.fixture
def small(tmp_path, make_graph, zoo):
    """A repository of its own with the one model `good`."""
    root = tmp_path / "repository"
    root.mkdir()
    put(type(zoo)(root), make_graph, "good")
    return root


def gone(server, pid, prefix):
    """Whether nothing of a start is left: processes of its session, shared memory, listeners."""
    session = [p.pid for p in psutil.process_iter() if _session(p.pid) == pid]
    used = [int(url.split(":")[2].partition("/")[0]) for url in (server.http_url, server.grpc_url, server.metrics_url)]
    listening = [c.laddr.port for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    return not session and not shared_memory.entries(prefix) and not set(used) & set(listening)


def _session(pid):
    try:
        return os.getsid(pid) if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE else None
    except (ProcessLookupError, psutil.Error):
        return None


def http_status(server, method, path, headers=None, body=None):
    connection = http.client.HTTPConnection(server.http_url.partition("://")[2], timeout=10)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


# What is open and what is not


def test_a_model_that_cannot_load_is_reported_and_does_not_stop_the_others(server, caller):
    assert set(server.failed) == {"broken"}
    assert "datatype TYPE_FP64 for input 'x', model provides TYPE_FP32" in server.failed["broken"]
    np.testing.assert_array_equal(caller("good", {"x": X}).arrays["y"], -X)
    np.testing.assert_array_equal(caller("double", {"x": X}).arrays["y"], 2 * X)


def test_all_listeners_are_on_loopback(server):
    listening = [
        connection.laddr
        for process in (psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True))
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    assert len({address.port for address in listening}) == 3


def test_the_secret_is_neither_in_the_argument_list_nor_in_the_log(server):
    [secret] = server.http_headers.values()
    assert len(secret) >= 32
    assert not visible(server.pid, secret)
    assert "modelport-control=xxxx" in Path(f"/proc/{server.pid}/cmdline").read_text()
    assert secret not in server.log.read_text()
    assert secret not in repr(server)


RESTRICTED = [
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/good/load"),
    ("POST", "/v2/repository/models/good/unload"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("GET", "/v2/cudasharedmemory/status"),
    ("POST", "/v2/systemsharedmemory/region/r/register"),
    ("GET", "/v2/trace/setting"),
    ("GET", "/v2/logging"),
    ("POST", "/v2/logging"),
    ("GET", "/v2/models/good/stats"),
    ("GET", "/v2/models/stats"),
]


@pytest.mark.parametrize(("method", "path"), RESTRICTED)
def test_control_over_http_needs_the_secret(server, method, path):
    body = "{}" if method == "POST" else None
    assert http_status(server, method, path, body=body)[0] == 403
    assert http_status(server, method, path, {"modelport-control": "guess"}, body)[0] == 403


@pytest.mark.parametrize("path", ["/v2/systemsharedmemory/status", "/v2/logging", "/v2/models/good/stats"])
def test_control_over_http_works_with_the_secret(server, path):
    assert http_status(server, "GET", path, server.http_headers)[0] == 200


@pytest.mark.parametrize("path", ["/v2", "/v2/health/ready", "/v2/models/good", "/v2/models/good/config"])
def test_what_callers_need_is_open(server, path):
    assert http_status(server, "GET", path)[0] == 200


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("RepositoryIndex", service_pb2.RepositoryIndexRequest()),
        ("RepositoryModelUnload", service_pb2.RepositoryModelUnloadRequest(model_name="good")),
        ("SystemSharedMemoryStatus", service_pb2.SystemSharedMemoryStatusRequest()),
        ("CudaSharedMemoryStatus", service_pb2.CudaSharedMemoryStatusRequest()),
        ("ModelStatistics", service_pb2.ModelStatisticsRequest()),
        ("TraceSetting", service_pb2.TraceSettingRequest()),
        ("LogSettings", service_pb2.LogSettingsRequest()),
    ],
)
def test_control_over_grpc_needs_the_secret(server, call, message):
    with grpc.insecure_channel(server.grpc_url.partition("://")[2]) as channel:
        ask = getattr(service_pb2_grpc.GRPCInferenceServiceStub(channel), call)
        with pytest.raises(grpc.RpcError, match="triton-grpc-protocol-modelport-control"):
            ask(message, timeout=10)
        if "Unload" not in call:
            ask(message, timeout=10, metadata=tuple(server.grpc_metadata.items()))


# Models that fail while answering


@pytest.mark.parametrize("model", ["raises", "exits"])
def test_a_model_that_fails_answers_5xx_and_leaves_the_others_alone(server, caller, model):
    assert caller(model, {"x": X}).status == 500
    np.testing.assert_array_equal(caller("good", {"x": X}).arrays["y"], -X)
    np.testing.assert_array_equal(caller("double", {"x": X}).arrays["y"], 2 * X)


# Load and unload


def test_load_returns_the_versions_that_answer_and_unload_waits(server, zoo, make_graph, caller, protocol):
    name = f"late_{protocol}"
    put(zoo, make_graph, name)
    assert server.load(name) == (1,)
    np.testing.assert_array_equal(caller(name, {"x": X}).arrays["y"], -X)
    server.unload(name)
    assert server.ready_versions(name) == ()
    assert caller(name, {"x": X}).status in (400, 404, 503)


def test_a_load_that_fails_says_why_and_the_old_version_serves_on(server, zoo, make_graph):
    path = put(zoo, make_graph, "turning")
    server.load("turning")
    path.write_bytes(b"not a model")
    with pytest.raises(ServerError, match="'turning' did not load") as caught:
        server.load("turning")
    assert "rotobuf" in caught.value.why or "PROTOBUF" in caught.value.why
    assert server.ready_versions("turning") == (1,)


def test_a_version_that_the_policy_names_and_that_is_missing_is_refused_before(server, zoo, make_graph):
    put(zoo, make_graph, "gap")
    config = zoo.root / "gap" / "config.pbtxt"
    config.write_text(config.read_text().replace("versions: [ 1 ]", "versions: [ 1, 2 ]"))
    with pytest.raises(VersionNotFoundError, match="version 2 of model 'gap' does not exist"):
        server.load("gap")
    assert server.ready_versions("gap") == ()


def test_what_must_not_reach_triton_is_refused_before(server, zoo, make_graph):
    with pytest.raises(ModelNotFoundError, match="there is no model 'absent'"):
        server.load("absent")
    for name in ("../good", "a;id", "$(id)", "a b"):
        with pytest.raises(InvalidNameError):
            server.load(name)
        with pytest.raises(InvalidNameError):
            server.unload(name)
    with pytest.raises(ModelNotFoundError, match="there is no model 'absent'"):
        server.unload("absent")
    stray = put(zoo, make_graph, "stray").parents[1] / "triton_python_backend_stub"
    stray.write_text("#!/bin/sh\n")
    with pytest.raises(InvalidNameError, match="triton_python_backend_stub"):
        server.load("stray")
    stray.unlink()
    folder = stray.parent / ("9" * 20)
    folder.mkdir()
    with pytest.raises(InvalidNameError, match="version"):
        server.load("stray")
    folder.rmdir()
    assert server.load("stray") == (1,)


def test_a_folder_with_an_odd_name_does_not_hinder_what_serves(server, zoo, make_graph, caller, protocol):
    """Beside a policy that names its versions Triton reads version 1 from the folder `1` and nowhere else."""
    model = f"odd_{protocol}"
    folder = put(zoo, make_graph, model).parents[1]
    for name in ("1.tmp", "001", "+1", "-1", "0", "2.part", "4294967297", "notes"):
        shutil.copytree(folder / "1", folder / name)
        (folder / name / "model.onnx").write_bytes(b"not a model")
        assert server.load(model) == (1,), name
        np.testing.assert_array_equal(caller(model, {"x": X}).arrays["y"], -X)
        shutil.rmtree(folder / name)


def test_a_folder_that_ends_the_server_keeps_its_own_model_from_the_start_and_no_other(tmp_path, zoo, make_graph):
    root = tmp_path / "repository"
    root.mkdir()
    for name in ("good", "hit"):
        put(type(zoo)(root), make_graph, name)
    (root / "hit" / ("9" * 20)).mkdir()
    with EmbeddedServer(root, **FREE) as running:
        assert "64 bits" in running.failed["hit"]
        assert running.ready_versions("good") == (1,)


# Starts that fail


def test_a_child_that_dies_is_reported_at_once_with_its_code_and_last_lines(small):
    server = EmbeddedServer(small, extra_args=["--rate-limit=bogus"], **FREE)
    started = time.monotonic()
    with pytest.raises(ServerDiedError, match="exit code 1") as caught:
        server.start()
    assert time.monotonic() - started < 10
    assert caught.value.returncode == 1
    assert "rate-limit" in caught.value.log_tail
    assert len(caught.value.log_tail.splitlines()) <= 50
    assert not server.running


def test_a_taken_port_is_named_with_its_holder(small, server):
    port = int(server.http_url.rpartition(":")[2])
    with pytest.raises(PortTakenError) as caught:
        EmbeddedServer(small, http_port=port, grpc_port=0, metrics_port=0).start()
    assert caught.value.port == port
    assert f"tritonserver (process {server.pid})" in caught.value.why


def test_a_port_that_was_free_a_moment_ago_is_replaced_by_another(small, monkeypatch):
    """Another process may take it before Triton does; that is an error only where this very port was asked for."""
    choose, rivals = ports.choose, []

    def beaten(host, wanted, **more):
        chosen = choose(host, wanted, **more)
        if not rivals:
            rivals.append(socket.create_server((host, chosen["HTTP"])))
        return chosen

    monkeypatch.setattr(ports, "choose", beaten)
    with EmbeddedServer(small, **FREE) as server:
        assert server.ready_versions("good") == (1,)
        assert rivals.pop().getsockname()[1] != int(server.http_url.rpartition(":")[2])


def test_no_model_that_loads_is_an_error_and_leaves_nothing(small):
    (small / "good" / "1" / "model.onnx").write_bytes(b"")
    server = EmbeddedServer(small, **FREE)
    with pytest.raises(ServerError, match="none of the models loaded: good"):
        server.start()
    assert not server.running
    assert not shared_memory.entries(server._handle.shm_prefix)


def test_a_start_that_takes_too_long_is_an_error_and_leaves_nothing(small):
    server = EmbeddedServer(small, start_timeout_s=0.01, **FREE)
    with pytest.raises(ServerTimeoutError, match=r"did not answer within 0\.01 s"):
        server.start()
    assert not server.running
    assert not shared_memory.entries(server._handle.shm_prefix)


def test_a_repository_that_is_missing_empty_or_badly_named_is_refused(tmp_path):
    with pytest.raises(RepositoryError, match="is not a folder"):
        EmbeddedServer(tmp_path / "absent", **FREE).start()
    for name in ("with blank", "semi;colon", "dollar$(id)"):
        (tmp_path / name).mkdir()
        with pytest.raises(InvalidNameError, match="repository path"):
            EmbeddedServer(tmp_path / name, **FREE).start()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFoundError, match="holds no model"):
        EmbeddedServer(tmp_path / "empty", **FREE).start()
    (tmp_path / "empty" / ".hidden").mkdir()
    with pytest.raises(InvalidNameError, match="hidden"):
        EmbeddedServer(tmp_path / "empty", **FREE).start()
    assert not list(tmp_path.glob("*.state"))


SERVE = """
import sys
from modelport._guard import guarded
from modelport.commands.serve import supervise
from modelport.server import EmbeddedServer
server = EmbeddedServer(sys.argv[1], http_port=0, grpc_port=0, metrics_port=0)
sys.exit(guarded(lambda: supervise(server, print, write=print, health_port=0), program="serve"))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_start_at_once_and_leaves_nothing(tmp_path, zoo, number):
    root = tmp_path / "repository"
    root.mkdir()
    path = type(zoo)(root).python("endless", "x:FP32[2]", "y:FP32[2]", DOUBLE)
    path.write_text(path.read_text() + "\n    def initialize(self, args):\n        time.sleep(60)\n")
    process = subprocess.Popen([sys.executable, "-c", SERVE, root], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 30
        while len(family := psutil.Process(process.pid).children(recursive=True)) < 2:  # the server and a stub
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        started = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert time.monotonic() - started < 10
        assert process.returncode == 130 and "Traceback" not in err
        assert not [child for child in family if _session(child.pid) == family[0].pid]
    finally:
        process.kill()
        process.communicate()


# Ends


def test_stop_answers_what_was_accepted_closes_idle_connections_and_leaves_nothing(tmp_path, zoo):
    root = tmp_path / "repository"
    root.mkdir()
    type(zoo)(root).python("slow", "x:FP32[2]", "y:FP32[2]", "time.sleep(0.1)\n" + DOUBLE)
    server = EmbeddedServer(root, **FREE).start()
    pid, prefix = server.pid, server._handle.shm_prefix
    assert not gone(server, pid, prefix), "negative control: it runs"
    idle = http.client.HTTPConnection(server.http_url.partition("://")[2])
    idle.request("GET", "/v2/health/live")
    idle.getresponse().read()
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]})
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(http_status, server, "POST", "/v2/models/slow/infer", None, body) for _ in range(20)]
        time.sleep(0.5)
        started = time.monotonic()
        server.stop()
        took = time.monotonic() - started
    idle.close()
    assert [answer.result()[0] for answer in asked] == [200] * 20
    assert took < 12, "the idle connection kept the server waiting"
    assert gone(server, pid, prefix)
    server.stop()


def test_after_a_kill_the_death_is_reported_and_stop_removes_what_is_left(small):
    server = EmbeddedServer(small, isolated=True, **FREE).start()
    pid, prefix = server.pid, server._handle.shm_prefix
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while server.running and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(ServerDiedError, match="SIGKILL"):
        server.index()
    assert shared_memory.entries(prefix), "negative control: a killed server leaves its shared memory"
    server.stop()
    assert gone(server, pid, prefix)
    with pytest.raises(ServerError, match="not running"):
        server.index()


def test_an_interpreter_that_ends_without_stop_leaves_nothing(small):
    code = (
        "import sys\n"
        "from modelport.server import EmbeddedServer\n"
        "server = EmbeddedServer(sys.argv[1], http_port=0, grpc_port=0, metrics_port=0).start()\n"
        "print(server.pid, server._handle.shm_prefix, server.http_url, flush=True)\n"
        "raise SystemExit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, small], capture_output=True, text=True, timeout=60)
    assert done.returncode == 7, done.stderr
    pid, prefix, _ = done.stdout.split()
    assert not psutil.pid_exists(int(pid))
    assert not shared_memory.entries(prefix)


def test_a_server_that_was_stopped_starts_again_with_a_log_and_a_secret_of_its_own(small):
    server = EmbeddedServer(small, **FREE)
    seen = []
    for _ in range(2):
        with server:
            assert [state.model for state in server.index()] == ["good"]
            [secret] = server.http_headers.values()
            assert not visible(server.pid, secret)
            seen.append((server.log, secret))
    (first_log, first_secret), (second_log, second_secret) = seen
    assert first_log != second_log and first_secret != second_secret
    assert first_log.is_file() and second_log.is_file()


def test_a_state_folder_that_cannot_be_written_is_named_with_what_to_do(small, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentUnfitError, match="log cannot be written") as caught:
        EmbeddedServer(small, state_dir=tmp_path / "file", **FREE).start()
    assert "state_dir=" in caught.value.fix


def test_two_servers_on_one_repository_do_not_disturb_each_other(server, zoo):
    with EmbeddedServer(zoo.root, models=["good"], **FREE) as other:
        assert other.ready_versions("good") == (1,)
        assert other.log != server.log
        assert other.http_headers != server.http_headers
        assert http_status(other, "GET", "/v2/logging", server.http_headers)[0] == 403
    assert server.ready_versions("good") == (1,)
