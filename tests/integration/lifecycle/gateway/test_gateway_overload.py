"""B8 at the gateway: ten times what the model can answer, over HTTP and gRPC at the same time."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import grpc
import numpy as np
import psutil
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from modelport.bench import open_loop
from modelport.bench.open_loop import Reply
from modelport.bench.requests import Request

pytestmark = pytest.mark.alone

RUN_S = 0.02
PLACES = 16
RATE = 10 / RUN_S
REFUSED_WITHIN_S = 1.0
NORMAL_WITHIN_S = 10.0
GROWTH_BYTES = 64 * 2**20
X = np.array([[0.5, 0.25]], np.float32)
BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": X[0].tolist()}]}).encode()
STATUS = {grpc.StatusCode.UNAVAILABLE: 503, grpc.StatusCode.RESOURCE_EXHAUSTED: 429}


@pytest.fixture(scope="module")
def server(shelf, make_server):
    shelf.publish("busy", python={"execute": f"time.sleep({RUN_S})"}, batch=1)
    return make_server(models=("busy",))


@pytest.fixture(scope="module")
def front(make_gateway, server):
    return make_gateway(server, concurrency=PLACES)


async def drive_grpc(target: str, token: str, rate_per_s: float, seconds: float) -> list[Reply]:
    """What `open_loop.drive` does, over gRPC."""
    message = service_pb2.ModelInferRequest(model_name="busy", raw_input_contents=[X.tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=X.shape)
    began = time.monotonic()

    async def ask(stub) -> Reply:
        sent = time.monotonic()
        try:
            reply = await stub.ModelInfer(message, timeout=30, metadata=[("authorization", f"Bearer {token}")])
            status, body = 200, reply.raw_output_contents[0]
        except grpc.aio.AioRpcError as exc:
            status, body = STATUS.get(exc.code(), open_loop.BROKEN), b""
        return Reply(sent_s=sent - began, took_s=time.monotonic() - sent, status=status, body=body)

    async with grpc.aio.insecure_channel(target) as channel:
        stub, tasks = service_pb2_grpc.GRPCInferenceServiceStub(channel), []
        for number in range(round(rate_per_s * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate_per_s - time.monotonic()))
            tasks.append(asyncio.create_task(ask(stub)))
        return await asyncio.gather(*tasks)


def right(reply: Reply, protocol: str) -> bool:
    if protocol == "http":
        return json.loads(reply.body)["outputs"][0]["data"] == [1.0, 0.5]
    return np.frombuffer(reply.body, np.float32).tolist() == [1.0, 0.5]


def violations(replies: list[Reply], protocol: str, rate: float) -> list[str]:
    """What was broken of the promise; a machine that stood still for this process may be late by as much."""
    counts = Counter(reply.status for reply in replies)
    stalled_s = max(reply.sent_s - number / rate for number, reply in enumerate(replies))
    refused_s = max(open_loop.longest(replies, status) for status in (429, 503))
    found = []
    if set(counts) - {200, 429, 503}:
        found.append(f"neither answered nor refused: {dict(counts)}")
    if refused_s > REFUSED_WITHIN_S + stalled_s:
        found.append(f"refused after {refused_s:.2f} s")
    if not counts[503] or not counts[200]:
        found.append(f"nobody was refused, or nobody answered: {dict(counts)}")
    if not all(right(reply, protocol) for reply in replies if reply.status == 200):
        found.append("a wrong answer")
    return found


def overload(front, seconds: float) -> None:
    token = front.key("many")
    assert front.until(200, token, model="busy") < NORMAL_WITHIN_S
    envoy = psutil.Process(front.gateway.pid)
    before, most, stop = envoy.memory_info().rss, [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            most[0] = max(most[0], envoy.memory_info().rss)

    request = Request(path="/v2/models/busy/infer", body=BODY, headers={"authorization": f"Bearer {token}"})
    with ThreadPoolExecutor(3) as pool:
        pool.submit(watch)
        over_http = pool.submit(open_loop.drive, front.http_url, request, rate_per_s=RATE, seconds=seconds)
        over_grpc = asyncio.run(drive_grpc(urlsplit(front.http_url).netloc, token, RATE, seconds))
        found = {"http": over_http.result(), "grpc": over_grpc}
        stop.set()
    normal_s = max(front.until(200, token, model="busy", protocol=protocol) for protocol in found)
    for protocol, replies in found.items():
        counts = dict(Counter(reply.status for reply in replies))
        print(f"{protocol}: {counts}, refused within {open_loop.longest(replies, 503):.2f} s, answered within "
              f"{open_loop.longest(replies, 200):.2f} s; normal after {normal_s:.2f} s; "
              f"{(most[0] - before) / 2**20:.0f} MiB more at most")  # fmt: skip
    assert {protocol: violations(replies, protocol, RATE) for protocol, replies in found.items()} == {
        "http": [],
        "grpc": [],
    }
    assert normal_s < NORMAL_WITHIN_S and front.gateway.pid == envoy.pid
    assert most[0] - before < GROWTH_BYTES


def test_b8_ten_times_the_capacity_is_refused_soon_and_forgotten(front):
    """Six seconds: the excess is refused within one, answers are right, memory is bounded, and all is well after."""
    overload(front, 6)


@pytest.mark.soak
def test_b8_for_a_minute(front):
    """The same for sixty seconds."""
    overload(front, 60)


def test_without_a_limit_the_check_finds_it(make_gateway, server, tmp_path):
    """Negative control: with places for everybody nobody is refused, and the check says so."""
    front = make_gateway(server, concurrency=100_000, folder=tmp_path / "gateway")
    token = front.key("many")
    replies = asyncio.run(drive_grpc(urlsplit(front.http_url).netloc, token, RATE / 4, 1.0))
    assert violations(replies, "grpc", RATE / 4)
