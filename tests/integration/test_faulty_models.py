"""Models that fail in every way: clear errors within a bounded time, and nobody else notices."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from onnx import helper

from modelport import Client
from modelport._process import wait_until
from modelport.errors import (
    ClientError,
    DeadlineError,
    ModelNotFoundError,
    RemoteError,
    ServerError,
    ServerTimeoutError,
    UnavailableError,
)
from modelport.server import EmbeddedServer, shared_memory, stubs

SOON_S = 5.0
X = {"x": np.array([[1, 2]], np.float32)}
RIGHT = {"double": 2 * X["x"], "neg": -X["x"]}


def giving(array: str) -> str:
    """The body of an `execute` that gives this array as `y`."""
    return f"return [pb_utils.InferenceResponse([pb_utils.Tensor('y', {array})]) for r in requests]"


DOUBLE = giving("2 * pb_utils.get_input_tensor_by_name(r, 'x').as_numpy()")

# Body of `execute`, and words of the error that callers get.
FAILING = {
    "raises": ("raise ValueError('on purpose')", "on purpose"),
    "raises_much": ("raise ValueError('on purpose ' * 5000)", "on purpose"),
    "runs_out_of_memory": ("raise MemoryError()", "MemoryError"),
    "recurses": ("f = lambda: f()\nf()", "RecursionError"),
    "leaves": ("raise SystemExit(3)", "SystemExit"),
    "answers_too_few": ("return []", "do not match"),
    "answers_a_number": ("return 5", "Expected a list"),
    "answers_texts": ("return ['x' for r in requests]", "InferenceResponse"),
    "refuses": (
        "return [pb_utils.InferenceResponse(error=pb_utils.TritonError('not today')) for r in requests]",
        "not today",
    ),
}
DYING = {
    "exits": "os._exit(3)",
    "crashes": "import ctypes\nctypes.string_at(0)",
    "aborts": "os.abort()",
    "raises_what_cannot_be_sent": "raise ValueError(chr(0xDCFF))",
}
# Triton passes these on with status 200.
WRONG = {
    "another_size": (giving("np.zeros((1, 7), np.float32)"), r"'y' is FP32 \[1, 7\]"),
    "another_rank": (giving("np.zeros((1, 2, 2), np.float32)"), r"'y' is FP32 \[1, 2, 2\]"),
    "another_type": (giving("np.zeros((1, 2), np.float64)"), "'y' is FP64"),
    "another_name": ("return [pb_utils.InferenceResponse([pb_utils.Tensor('z', np.zeros(2))])]", "'y' is missing"),
    "nothing": ("return [pb_utils.InferenceResponse([]) for r in requests]", "'y' is missing"),
}
# Body of `initialize`, and words of the reason that the load call gives.
NOT_LOADING = {
    "raises": ("raise ValueError('no weights')", "no weights"),
    "exits": ("os._exit(3)", "not healthy"),
    "crashes": ("import ctypes; ctypes.string_at(0)", "not healthy"),
}


def neg(make_graph):
    return make_graph([helper.make_node("Neg", ["x"], ["y"])], "x:FLOAT[n,2]", "y:FLOAT[n,2]")


def with_initialize(zoo, name: str, body: str) -> None:
    path = zoo.python(name, "x:FP32[2]", "y:FP32[2]", DOUBLE)
    path.write_text(path.read_text() + f"\n    def initialize(self, args):\n        {body}\n")


def put_all(zoo, make_graph) -> None:
    zoo.python("double", "x:FP32[2]", "y:FP32[2]", DOUBLE)
    zoo.onnx("neg", "x:FP32[2]", "y:FP32[2]", neg(make_graph))
    for name, (body, _) in {**FAILING, **WRONG}.items():
        zoo.python(name, "x:FP32[2]", "y:FP32[2]", body)
    for name, body in DYING.items():
        zoo.python(name, "x:FP32[2]", "y:FP32[2]", body)
    zoo.python("huge", "x:FP32[2]", "y:FP32[-1]", giving("np.ones((1, 2**24), np.float32)"))
    table = {"table": np.arange(4, dtype=np.float32)}
    looks_up = make_graph(
        [helper.make_node("Gather", ["table", "i"], ["y"], axis=0)], "i:INT64[n,1]", "y:FLOAT[n,1]", table
    )
    waits = "dynamic_batching { max_queue_delay_microseconds: 200000 }\n"
    zoo.onnx("looks_up", "i:INT64[1]", "y:FP32[1]", looks_up, extra=waits)
    fills = make_graph([helper.make_node("ConstantOfShape", ["size"], ["y"])], "size:INT64[1]", "y:FLOAT[m]")
    zoo.onnx("fills", "size:INT64[1]", "y:FP32[-1]", fills, batch=0)


@pytest.fixture(scope="module")
def server(zoo, make_graph):
    put_all(zoo, make_graph)
    with EmbeddedServer(zoo.root, http_port=0, grpc_port=0, metrics_port=0) as running:
        assert not running.failed
        yield running


def state(server) -> tuple[object, ...]:
    """Process of the server, processes of the good models, and its shared memory."""
    found = {stub.pid for stub in stubs.find(server.handle) if stub.model in RIGHT}
    return server.pid, found, len(shared_memory.entries(server.handle.shm_prefix))


@contextlib.contextmanager
def others_unharmed(server):
    """Before, meanwhile and after, the other models give their golden answers, from the same processes."""
    before = state(server)
    stop, took = threading.Event(), []

    def ask():
        with Client(server.http_url, retries=0) as http, Client(server.grpc_url, retries=0) as grpc:
            while not (took and stop.wait(0.02)):
                for model, right in RIGHT.items():
                    for client in (http, grpc):
                        began = time.monotonic()
                        np.testing.assert_array_equal(client.infer(model, inputs=X)["y"], right)
                        took.append(time.monotonic() - began)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield
        finally:
            stop.set()
            asking.result(30)
    assert max(took) < SOON_S
    assert state(server)[:2] == before[:2]


@pytest.fixture(autouse=True)
def unharmed(request):
    """Rule G around each test that uses the module's server."""
    if "server" not in request.fixturenames:
        yield
        return
    with others_unharmed(request.getfixturevalue("server")):
        yield


def test_the_check_of_the_others_can_fail(zoo, make_graph, tmp_path):
    """Negative control: when a good model is taken away meanwhile, the check says so."""
    root = tmp_path / "repository"
    root.mkdir()
    own = type(zoo)(root)
    own.python("double", "x:FP32[2]", "y:FP32[2]", DOUBLE)
    own.onnx("neg", "x:FP32[2]", "y:FP32[2]", neg(make_graph))
    with EmbeddedServer(root, http_port=0, grpc_port=0, metrics_port=0) as running:
        with pytest.raises(ModelNotFoundError, match="neg"), others_unharmed(running):
            running.unload("neg")
            time.sleep(0.3)
        running.load("neg")
        with pytest.raises((AssertionError, ModelNotFoundError)), others_unharmed(running):
            running.unload("double")
            running.load("double")


# While answering: the backend `python`


@pytest.mark.parametrize("model", FAILING)
def test_a_model_that_fails_is_a_500_that_says_why(server, model, protocol, caller):
    """Every time, at once, and with the model's own words."""
    url = server.http_url if protocol == "http" else server.grpc_url
    with Client(url) as client:
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(RemoteError, match="status 500") as caught:
                client.infer(model, inputs=X)
            assert time.monotonic() - began < SOON_S
            assert FAILING[model][1] in caught.value.why
            assert not caught.value.retryable, "it would fail again"


@pytest.mark.parametrize("model", DYING)
def test_a_model_whose_process_dies_is_a_500_within_a_bounded_time(server, model, protocol, caller):
    """Also the request after it, until somebody loads the model anew."""
    url = server.http_url if protocol == "http" else server.grpc_url
    with Client(url) as client:
        began = time.monotonic()
        with pytest.raises(UnavailableError, match="a process of the model has ended") as caught:
            client.infer(model, inputs=X)
        assert time.monotonic() - began < SOON_S
        assert not caught.value.retryable, "it may be what ended the process"
    began = time.monotonic()
    answer = caller(model, X)
    assert answer.status == 500 and "is not healthy" in answer.error
    assert time.monotonic() - began < SOON_S


def test_requests_to_a_dead_process_wait_for_each_other(server, caller):
    with ThreadPoolExecutor(3) as pool:
        assert {answer.status for answer in pool.map(lambda _: caller("exits", X), range(3))} == {500}


@pytest.mark.parametrize("model", WRONG)
def test_wrong_tensors_never_reach_a_callers_program(server, model, protocol):
    """Triton answers 200; modelport's client holds the answer against the model's tensors."""
    url = server.http_url if protocol == "http" else server.grpc_url
    with Client(url) as client:
        with pytest.raises(RemoteError, match="cannot be read") as caught:
            client.infer(model, inputs=X)
        assert caught.match(WRONG[model][1])


def test_a_large_answer_arrives_whole(server, protocol):
    url = server.http_url if protocol == "http" else server.grpc_url
    with Client(url, timeout_s=30) as client:
        answer = client.infer("huge", inputs=X)["y"]
    assert answer.shape == (1, 2**24) and bool((answer == 1).all())


def test_a_failing_model_does_not_leave_anything(server):
    """A hundred failures: the same processes, no more descriptors or shared memory."""
    process = psutil.Process(server.pid)
    with Client(server.http_url) as client:
        for round_ in range(2):
            for _ in range(100):
                with pytest.raises(RemoteError):
                    client.infer("raises", inputs=X)
            if not round_:
                before = state(server), process.num_fds()
    assert state(server) == before[0]
    assert process.num_fds() <= before[1] + 4, "the other callers of this test come and go"


# While answering: our backends


def test_only_the_row_that_makes_an_onnx_model_fail_is_refused(server, caller):
    """Right and wrong ones go into one batch; each gets its own answer."""
    rows = [0, 9, 3, -9, 1, 7]
    with ThreadPoolExecutor(len(rows)) as pool:
        answers = list(pool.map(lambda row: caller("looks_up", {"i": np.array([[row]])}), rows))
    for row, answer in zip(rows, answers, strict=True):
        if -4 <= row < 4:
            assert answer.arrays["y"].ravel() == [row]
        else:
            assert answer.status == 500 and "out of data bounds" in answer.error


@pytest.mark.parametrize("size", [2**45, 2**60, -5])
def test_a_request_that_would_need_too_much_memory_is_a_500(server, caller, size):
    answer = caller("fills", {"size": np.array([size])})
    assert answer.status == 500 and "fills" in answer.error
    np.testing.assert_array_equal(caller("fills", {"size": np.array([3])}).arrays["y"], [0, 0, 0])


def test_a_run_that_takes_too_long_is_ended_and_the_next_request_is_answered(server, zoo, make_graph, caller, native):
    """It loops as often as it is told to, for ever if that is what a caller wants."""
    body = make_graph(
        [helper.make_node("Identity", [n], [f"{n}_out"]) for n in ("go", "y")],
        "i:INT64[] go:BOOL[] y:FLOAT[m]",
        "go_out:BOOL[] y_out:FLOAT[m]",
    )
    nodes = [
        helper.make_node("Squeeze", ["times"], ["trips"]),
        helper.make_node("Loop", ["trips", "", "one"], ["y"], body=body),
    ]
    loops = make_graph(nodes, "times:INT64[1]", "y:FLOAT[m]", {"one": np.ones(1, np.float32)})
    if not (zoo.root / "loops").exists():
        limit = 'parameters { key: "modelport_max_run_s" value { string_value: "1" } }\n'
        zoo.onnx("loops", "times:INT64[1]", "y:FP32[-1]", loops, batch=0, extra=limit)
        server.load("loops")
    began = time.monotonic()
    answer = caller("loops", {"times": np.array([2**60])})
    assert answer.status == 500 and "it took longer than 1 s and was ended" in answer.error, answer
    assert time.monotonic() - began < SOON_S
    assert caller("loops", {"times": np.array([3])}).arrays["y"].tolist() == [1]


# While loading


@pytest.mark.parametrize("name", NOT_LOADING)
def test_a_model_that_fails_while_it_loads_is_an_error_soon(server, zoo, name):
    body, words = NOT_LOADING[name]
    with_initialize(zoo, f"load_{name}", body)
    began = time.monotonic()
    with pytest.raises(ServerError, match="did not load") as caught:
        server.load(f"load_{name}", timeout_s=60)
    assert words in caught.value.why, caught.value.why
    assert time.monotonic() - began < 30
    assert server.ready_versions(f"load_{name}") == ()


# A server of its own each: what these leave in Triton would stay


@pytest.fixture
def own(zoo, make_graph, tmp_path):
    """A zoo with the good models."""
    root = tmp_path / "repository"
    root.mkdir()
    other = type(zoo)(root)
    other.python("double", "x:FP32[2]", "y:FP32[2]", DOUBLE)
    other.onnx("neg", "x:FP32[2]", "y:FP32[2]", neg(make_graph))
    return other


@contextlib.contextmanager
def serving(zoo):
    """Without grace at the end: some of these models never end."""
    running = EmbeddedServer(zoo.root, http_port=0, grpc_port=0, metrics_port=0, models=["double", "neg"]).start()
    pid, prefix = running.pid, running.handle.shm_prefix
    try:
        yield running
    finally:
        running.stop(grace_s=1)
    assert not psutil.pid_exists(pid) and not shared_memory.entries(prefix)


def test_a_model_that_never_ends_to_load_keeps_nobody_else_waiting(own):
    """The load call ends at its deadline; other models answer and load meanwhile."""
    with_initialize(own, "endless", "time.sleep(600)")
    with serving(own) as running, others_unharmed(running):
        began = time.monotonic()
        with pytest.raises(ServerTimeoutError):
            running.load("endless", timeout_s=2)
        assert time.monotonic() - began < SOON_S
        own.python("late", "x:FP32[2]", "y:FP32[2]", DOUBLE)
        assert running.load("late", timeout_s=20) == (1,)
        with Client(running.http_url) as client:
            np.testing.assert_array_equal(client.infer("late", inputs=X)["y"], RIGHT["double"])
            assert not client.ready("endless")


def test_a_model_that_gives_no_answer_ends_with_the_callers_deadline(own, protocol):
    """`return None` means that answers come later. They never do, and nobody but this model's callers waits."""
    own.python("silent", "x:FP32[2]", "y:FP32[2]", "return None")
    with serving(own) as running, others_unharmed(running):
        running.load("silent")
        with Client(running.http_url if protocol == "http" else running.grpc_url) as client:
            began = time.monotonic()
            with pytest.raises(DeadlineError):
                client.infer("silent", inputs=X, timeout_s=1)
            assert time.monotonic() - began < 1.5


def test_an_error_that_is_shared_by_two_answers_ends_the_server(own):
    """Why our backends make one for each. A new release of Triton may be better."""
    body = "time.sleep(0.2)\ne = pb_utils.TritonError('shared')\n"
    body += "return [pb_utils.InferenceResponse(error=e) for r in requests]"
    own.python("shares", "x:FP32[2]", "y:FP32[2]", body, extra="dynamic_batching { }\n")
    running = EmbeddedServer(own.root, http_port=0, grpc_port=0, metrics_port=0).start()
    try:
        with Client(running.http_url, retries=0, timeout_s=3) as client, ThreadPoolExecutor(16) as pool:

            def ask(_):
                with contextlib.suppress(ClientError):
                    client.infer("shares", inputs=X)

            for _ in range(10):
                list(pool.map(ask, range(16)))
                if not running.running:
                    break
        assert wait_until(lambda: not running.running, timeout_s=5)
    finally:
        running.stop(grace_s=1)
