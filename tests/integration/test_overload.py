"""Ten times what a model can answer: the excess is refused soon, the rest is right, and all is well again afterwards.

Each check is a list of violations, so that the same check also shows what an unbounded line of requests does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
import numpy as np
import psutil
import pytest
from onnx import helper
from tritonclient.grpc import service_pb2, service_pb2_grpc

from modelport import Client
from modelport._process import wait_until
from modelport.bench import open_loop
from modelport.bench.open_loop import Reply
from modelport.bench.requests import Request, triton_request
from modelport.errors import DeadlineError, RemoteError
from modelport.server import EmbeddedServer, shared_memory, toolchain

pytestmark = pytest.mark.alone

REFUSED_WITHIN_S = 1.0
REFUSED_WITHIN_RUNS = 25  # where that is longer: on a machine that is busy with something else
NORMAL_WITHIN_S = 10.0
GROWTH_BYTES = 96 * 2**20
REFUSALS = (429, 503)
X = np.random.default_rng(7).standard_normal((1, 64, 1)).astype(np.float32)
MODELS = ("batched", "single", "pair", "chain")
BATCHING = "dynamic_batching { }\n"
TWO = "instance_group { kind: KIND_AUTO count: 2 }\n"
CHAIN = """
name: "chain"
platform: "ensemble"
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: [ 64, 1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 64 ] }
version_policy { specific { versions: [ 1 ] } }
ensemble_scheduling {
  step { model_name: "before" model_version: -1
         input_map { key: "x" value: "x" } output_map { key: "y" value: "between" } }
  step { model_name: "batched" model_version: -1
         input_map { key: "x" value: "between" } output_map { key: "y" value: "y" } }
}
"""
UNBOUNDED = 'parameters { key: "modelport_max_wait_ms" value { string_value: "0" } }\n'


def busy_graph(make_graph, batch, products=80):
    """A little input, some 20 ms of matrix products, a little output: the load itself costs little."""
    rng = np.random.default_rng(8)
    weights = {"row": rng.random((1, 512), dtype=np.float32)}
    weights["square"] = rng.standard_normal((512, 512)).astype(np.float32) / 23
    nodes = [helper.make_node("MatMul", ["x", "row"], ["h0"])]
    nodes += [helper.make_node("MatMul", [f"h{i}", "square"], [f"h{i + 1}"]) for i in range(products)]
    nodes.append(helper.make_node("ReduceMean", [f"h{products}"], ["y"], axes=[-1], keepdims=0))
    return make_graph(nodes, f"x:FLOAT[{batch},64,1]", f"y:FLOAT[{batch},64]", weights)


@pytest.fixture(scope="module")
def server(zoo, make_graph):
    """Models with a batch axis, with two instances, without a batch axis, as a step; and one that shall not notice."""
    inputs, outputs = "x:FP32[64,1]", "y:FP32[64]"
    zoo.onnx("batched", inputs, outputs, busy_graph(make_graph, "n"), batch=4, extra=BATCHING)
    zoo.onnx("pair", inputs, outputs, busy_graph(make_graph, "n"), batch=4, extra=BATCHING + TWO)
    zoo.onnx("single", "x:FP32[1,64,1]", "y:FP32[1,64]", busy_graph(make_graph, "1"), batch=0)
    identity = make_graph([helper.make_node("Identity", ["x"], ["y"])], "x:FLOAT[n,64,1]", "y:FLOAT[n,64,1]")
    zoo.onnx("before", inputs, "y:FP32[64,1]", identity, batch=4, extra=BATCHING)
    (zoo.root / "chain" / "1").mkdir(parents=True)
    (zoo.root / "chain" / "config.pbtxt").write_text(CHAIN)
    zoo.onnx("other", "x:FP32[2]", "y:FP32[2]", neg(make_graph))
    with EmbeddedServer(zoo.root, http_port=0, grpc_port=0, metrics_port=0) as running:
        assert not running.failed
        yield running


def neg(make_graph):
    return make_graph([helper.make_node("Neg", ["x"], ["y"])], "x:FLOAT[n,2]", "y:FLOAT[n,2]")


def request_of(model: str) -> Request:
    return triton_request(model, {"x": X}, "y")


def capacity(server, model, seconds=1.0) -> tuple[float, np.ndarray, float]:
    """Answers per second with sixteen callers, the golden answer, and the seconds that it takes alone."""
    alone = open_loop.drive(server.http_url, request_of(model), rate_per_s=5, seconds=1)
    golden = np.frombuffer(alone[0].body, np.float32)
    assert {reply.status for reply in alone} == {200}
    ended = time.monotonic() + seconds
    done: list[int] = []

    def call():
        with Client(server.http_url, retries=0) as client:
            while time.monotonic() < ended:
                client.infer(model, x=X)
                done.append(1)

    threads = [threading.Thread(target=call) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(done) / seconds, golden, sorted(reply.took_s for reply in alone)[2]


@dataclass
class Memory:
    """Memory of the server and its stubs, watched in a thread of its own."""

    pid: int
    most: int = 0

    def __enter__(self):
        self._stop = threading.Event()
        self.before = self.now()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def now(self) -> int:
        server = psutil.Process(self.pid)
        return sum(process.memory_info().rss for process in (server, *server.children(recursive=True)))

    def _watch(self):
        while not self._stop.wait(0.25):
            self.most = max(self.most, self.now())


def is_golden(reply: Reply, golden: np.ndarray) -> bool:
    found = np.frombuffer(reply.body, np.float32)
    return found.shape == golden.shape and bool(np.allclose(found, golden, rtol=1e-4, atol=1e-4))


def stalled_s(replies: list[Reply], rate: float) -> float:
    """By how much a request was sent too late: for so long the machine stood still for this process."""
    return max(reply.sent_s - number / rate for number, reply in enumerate(replies))


def violations(replies: list[Reply], golden: np.ndarray, alone_s: float, rate: float) -> list[str]:
    """What of the promise was broken by the replies to requests at a rate, where one alone takes `alone_s` seconds."""
    within_s = max(REFUSED_WITHIN_S, REFUSED_WITHIN_RUNS * alone_s) + stalled_s(replies, rate)
    counts = Counter(reply.status for reply in replies)
    refused = max((open_loop.longest(replies, status) for status in REFUSALS), default=0.0)
    wrong = sum(not is_golden(reply, golden) for reply in replies if reply.status == 200)
    found = []
    if set(counts) - {200, *REFUSALS}:
        found.append(f"neither answered nor refused: {dict(counts)}")
    if refused > within_s:
        found.append(f"refused after {refused:.2f} s")
    if not sum(counts[status] for status in REFUSALS):
        found.append("nobody was refused")
    if not counts[200]:
        found.append("nobody was answered")
    if wrong:
        found.append(f"{wrong} wrong answers")
    return found


def seconds_until_normal(server, model, golden, alone_s) -> float:
    """Seconds until three requests in a row are answered as fast as before (or nearly)."""
    began = time.monotonic()
    row = 0
    while row < 3 and time.monotonic() - began < 2 * NORMAL_WITHIN_S:
        [reply] = open_loop.drive(server.http_url, request_of(model), rate_per_s=1, seconds=1, patience_s=5)
        quick = reply.took_s <= 5 * alone_s + 0.05
        row = row + 1 if reply.status == 200 and is_golden(reply, golden) and quick else 0
    return time.monotonic() - began


@dataclass(frozen=True)
class State:
    """What must be the same before and after."""

    pid: int
    stubs: frozenset[int]
    shared: int

    @classmethod
    def of(cls, server):
        stubs = frozenset(child.pid for child in psutil.Process(server.pid).children(recursive=True))
        return cls(server.pid, stubs, len(shared_memory.entries(server.handle.shm_prefix)))


def descriptors(server) -> int:
    return psutil.Process(server.pid).num_fds()


@contextlib.contextmanager
def others_are_served(server):
    """Meanwhile another model answers every request, and soon."""
    stop, took = threading.Event(), []

    def ask():
        x = np.array([[1, 2]], np.float32)
        with Client(server.http_url, retries=0) as client:
            while not stop.wait(0.1):
                began = time.monotonic()
                np.testing.assert_array_equal(client.infer("other", x=x)["y"], -x)
                took.append(time.monotonic() - began)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield took
        finally:
            stop.set()
            asking.result()
    assert took and max(took) < 2 * REFUSED_WITHIN_S


def overload(server, model: str, seconds: float) -> None:
    """Ten times the capacity, with every promise checked."""
    rate, golden, alone_s = capacity(server, model)
    before, open_before = State.of(server), descriptors(server)
    with Memory(server.pid) as memory, others_are_served(server) as others:
        replies = open_loop.drive(server.http_url, request_of(model), rate_per_s=10 * rate, seconds=seconds)
    normal_s = seconds_until_normal(server, model, golden, alone_s)
    answered = sum(reply.status == 200 for reply in replies) / seconds
    refused = [reply.took_s for reply in replies if reply.status in REFUSALS]
    growth = max(memory.most, memory.now()) - memory.before
    print(
        f"{model}: {rate:.0f}/s alone; of {10 * rate:.0f}/s {answered:.0f}/s answered within "
        f"{open_loop.longest(replies, 200):.2f} s, the others refused after {np.median(refused or [0]):.2f} s, at most "
        f"{max(refused, default=0):.2f} s; another model within {max(others):.2f} s; normal after {normal_s:.2f} s; "
        f"the machine stood still for {stalled_s(replies, 10 * rate):.2f} s; "
        f"memory +{growth / 2**20:.0f} MiB"
    )
    assert violations(replies, golden, alone_s, 10 * rate) == []
    assert answered > 0.25 * rate, "an overloaded model goes on answering"
    assert normal_s <= NORMAL_WITHIN_S
    assert growth <= GROWTH_BYTES
    assert State.of(server) == before
    assert wait_until(lambda: descriptors(server) <= open_before + 4, timeout_s=10), "connections are left open"


@pytest.mark.parametrize("model", MODELS)
def test_ten_times_the_capacity(server, model):
    """The excess is refused within a second with 503, what is answered is right, and it is normal again soon."""
    overload(server, model, seconds=4)


@pytest.mark.soak
@pytest.mark.timeout(180)
@pytest.mark.parametrize("model", MODELS)
def test_ten_times_the_capacity_for_a_minute(server, model):
    """The same for a minute: nothing piles up anywhere."""
    overload(server, model, seconds=60)


def test_each_broken_promise_is_noticed():
    """Negative control of the checks themselves; memory is really taken."""
    golden = np.ones(4, np.float32)

    def reply(status=200, body=golden, took_s=0.1):
        return Reply(sent_s=0.0, took_s=took_s, status=status, body=body.tobytes())

    good = [reply(), reply(503)]
    for replies, words in (
        (good, None),
        ([*good, reply(body=golden + 1)], "1 wrong answers"),
        ([*good, reply(503, took_s=1.1)], "refused after 1.10 s"),
        ([*good, reply(open_loop.LATE)], "neither answered nor refused"),
        (good[:1], "nobody was refused"),
        (good[1:], "nobody was answered"),
    ):
        assert [one[: len(words or "")] for one in violations(replies, golden, 0.01, 1e9)] == ([words] if words else [])
    with Memory(os.getpid()) as memory:
        taken = b"x" * (2 * GROWTH_BYTES)
        assert wait_until(lambda: memory.most - memory.before > GROWTH_BYTES, timeout_s=5)
        del taken


def test_an_unbounded_line_breaks_the_promise(make_graph, zoo, tmp_path):
    """Negative control: with the bound turned off the same check finds requests that nobody answers or refuses."""
    root = tmp_path / "repository"
    root.mkdir()
    own = type(zoo)(root)
    own.onnx("m", "x:FP32[64,1]", "y:FP32[64]", busy_graph(make_graph, "n"), batch=4, extra=BATCHING + UNBOUNDED)
    server = EmbeddedServer(root, http_port=0, grpc_port=0, metrics_port=0).start()
    try:
        rate, golden, alone_s = capacity(server, "m")
        replies = open_loop.drive(server.http_url, request_of("m"), rate_per_s=10 * rate, seconds=3, patience_s=2)
    finally:
        server.stop(grace_s=0.5)  # what waits would take half a minute
    found = violations(replies, golden, alone_s, 10 * rate)
    assert any("neither answered nor refused" in one for one in found), found
    assert "nobody was refused" in found


def test_every_connection_of_a_burst_gets_its_answer(server, require):
    """Refusals come faster than an HTTP thread that waits for a core takes them: Triton alone loses some."""
    require("the compiled parts", present=toolchain.SEND.is_file())
    address = server.http_url.removeprefix("http://").split(":")
    content = open_loop.to_bytes(server.http_url, request_of("single"))

    async def one(reader, writer):
        writer.write(content)
        try:
            return (await asyncio.wait_for(open_loop.read_answer(reader), timeout=20))[0]
        finally:
            writer.close()

    async def burst():
        streams = [await asyncio.open_connection(*address) for _ in range(700)]
        return await asyncio.gather(*(one(*stream) for stream in streams))

    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        counts = Counter(asyncio.run(burst()) + asyncio.run(burst()))
    finally:
        for process in others:
            process.kill()
            process.wait()
    assert {*counts} <= {200, 503} and counts.total() == 1400, counts


def test_grpc_callers_are_refused_as_soon(server):
    """The same over gRPC: UNAVAILABLE within a second, or the right answer."""
    rate, golden, alone_s = capacity(server, "batched")
    within_s = max(REFUSED_WITHIN_S, REFUSED_WITHIN_RUNS * alone_s)
    message = service_pb2.ModelInferRequest(model_name="batched", raw_input_contents=[X.tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=X.shape)
    seen: list[tuple[str, float]] = []

    async def ask(stub):
        began = time.monotonic()
        try:
            reply = await stub.ModelInfer(message)
            right = np.allclose(np.frombuffer(reply.raw_output_contents[0], np.float32), golden, rtol=1e-4, atol=1e-4)
            outcome = "right" if right else "wrong"
        except grpc.RpcError as exc:
            assert "overloaded" in exc.details()
            outcome = exc.code().name
        seen.append((outcome, time.monotonic() - began))

    async def load(seconds):
        async with grpc.aio.insecure_channel(server.grpc_url.removeprefix("grpc://")) as channel:
            stub, began, tasks = service_pb2_grpc.GRPCInferenceServiceStub(channel), time.monotonic(), []
            for number in range(int(10 * rate * seconds)):
                await asyncio.sleep(max(0.0, began + number / (10 * rate) - time.monotonic()))
                tasks.append(asyncio.create_task(ask(stub)))
            await asyncio.gather(*tasks)

    asyncio.run(load(3))
    assert {outcome for outcome, _ in seen} == {"right", "UNAVAILABLE"}
    assert max(took for outcome, took in seen if outcome == "UNAVAILABLE") <= within_s


def test_the_client_takes_a_refusal_as_not_now(server, protocol):
    """A refusal may be tried again, is tried again inside the deadline, and after the load it is answered."""
    url = server.http_url if protocol == "http" else server.grpc_url
    rate, golden, _ = capacity(server, "batched")
    timeout_s, refusals, longest_s = 2.0, [], 0.0
    with ThreadPoolExecutor(1) as pool, Client(url, retries=0) as once, Client(url, timeout_s=timeout_s) as patient:
        once.spec("batched"), patient.spec("batched")
        load = pool.submit(
            open_loop.drive, server.http_url, request_of("batched"), rate_per_s=10 * rate, seconds=4, patience_s=10
        )
        while not load.done():
            for client in (once, patient):
                began = time.monotonic()
                try:
                    np.testing.assert_allclose(client.infer("batched", x=X)["y"].ravel(), golden, rtol=1e-4, atol=1e-4)
                except RemoteError as error:
                    refusals.append(error)
                except DeadlineError:
                    assert client is patient
                longest_s = max(longest_s, time.monotonic() - began)
        assert patient.infer("batched", x=X)
    assert refusals, "nobody was refused"
    assert {(error.status, error.retryable) for error in refusals} == {(503, True)}
    assert all("overloaded" in error.why for error in refusals)
    assert any("this was the last of 4 tries" in error.why for error in refusals) or longest_s > 0.5
    assert longest_s <= timeout_s + 0.5
