"""What `modelport usage` tells is what callers got, whatever is reloaded, restarted or killed meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import threading
import time
from collections import Counter, defaultdict
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from modelport._process import wait_until
from modelport.commands.usage import usage
from modelport.gateway.gateway import FLUSH_MS, Gateway
from modelport.gateway.keys import issue
from modelport.gateway.settings import Settings
from modelport.server import EmbeddedServer
from modelport.supervisor import gateway as gateways

MODELS = ("first", "second", "third")
TENANTS = tuple(f"tenant-{number}" for number in range(5))
PAUSE_S = 0.02
ROWS = 4


def key(root, tenant):
    return issue.create(root, tenant, ("*",), expires_s=3600, limits={}, now=int(time.time())).token


class Caller(threading.Thread):
    """Asks one model for one tenant, and notes what was answered, and when."""

    def __init__(self, place, tenant, token, model, protocol, ended):
        super().__init__(daemon=True)
        self.place, self.tenant, self.token, self.model = place, tenant, token, model
        self.ask = self._http if protocol == "http" else self._grpc
        self.ended = ended
        self.answered: list[tuple[float, int, int, int]] = []  # when, rows, bytes sent and received
        self.failed = 0

    def run(self):
        rng = random.Random(f"{self.tenant} {self.model}")
        while not self.ended.wait(PAUSE_S):
            try:
                self.ask(rng.randint(1, ROWS))
            except (OSError, http.client.HTTPException, grpc.RpcError):
                self.failed += 1
                self._close()
                time.sleep(0.1)
        self._close()

    connection = channel = None

    def _http(self, rows):
        if self.connection is None:
            self.connection = http.client.HTTPConnection(self.place, timeout=10)
        values = [0.5] * 2 * rows
        body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, 2], "data": values}]})
        headers = {"authorization": f"Bearer {self.token}"}
        self.connection.request("POST", f"/v2/models/{self.model}/infer", body, headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise OSError(content)
        self.answered.append((time.monotonic(), rows, len(body), len(content)))

    def _grpc(self, rows):
        if self.channel is None:
            self.channel = grpc.insecure_channel(self.place)
        data = np.zeros((rows, 2), np.float32)
        message = service_pb2.ModelInferRequest(model_name=self.model, raw_input_contents=[data.tobytes()])
        message.inputs.add(name="x", datatype="FP32", shape=data.shape)
        ask = service_pb2_grpc.GRPCInferenceServiceStub(self.channel).ModelInfer
        reply = ask(message, timeout=10, metadata=[("authorization", f"Bearer {self.token}")])
        sizes = message.ByteSize() + 5, reply.ByteSize() + 5  # each message has a head of five bytes
        self.answered.append((time.monotonic(), rows, *sizes))

    def _close(self):
        if self.connection is not None:
            self.connection.close()
        if self.channel is not None:
            self.channel.close()
        self.connection = self.channel = None


class Load:
    """Five tenants that ask three models, over both protocols, as a context manager."""

    def __init__(self, root, url):
        self.ended = threading.Event()
        place, tokens = urlsplit(url).netloc, {tenant: key(root, tenant) for tenant in TENANTS}
        self.callers = [
            Caller(place, tenant, tokens[tenant], model, "grpc" if (number + column) % 3 == 0 else "http", self.ended)
            for number, tenant in enumerate(TENANTS)
            for column, model in enumerate(MODELS)
        ]

    def __enter__(self):
        for caller in self.callers:
            caller.start()
        self.until_all_are_answered()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for caller in self.callers:
            caller.join(30)

    def until_all_are_answered(self):
        """Again, from now on."""
        before = [len(caller.answered) for caller in self.callers]
        assert wait_until(
            lambda: all(len(one.answered) > was for one, was in zip(self.callers, before, strict=True)), timeout_s=60
        ), [(one.tenant, one.model, len(one.answered), one.failed) for one in self.callers]

    def counted(self, by):
        """Requests, rows and bytes by tenant, or by model."""
        sums = defaultdict(Counter)
        for one in self.callers:
            for _, rows, sent, received in one.answered:
                sums[getattr(one, by)].update(answered=1, inferences=rows, received_bytes=sent, sent_bytes=received)
        return {name: dict(found) for name, found in sums.items()}


def refused(place, token, model):
    """The status of a request that is not answered."""
    connection = http.client.HTTPConnection(place, timeout=10)
    try:
        connection.request("POST", f"/v2/models/{model}/infer", "{}", {"authorization": f"Bearer {token}"})
        return connection.getresponse().status
    finally:
        connection.close()


def told(root, by):
    """The same, as `modelport usage` tells it."""
    names = ("answered", "inferences", "received_bytes", "sent_bytes")
    rows = usage(by=by, repository=root).rows
    return {row.name: {name: getattr(row, name) for name in names} for row in rows if row.answered}


def hold(shelf, serve, free_port, steps, seconds):
    """Load for so long, with something that happens to the service at each step."""
    for model in MODELS:
        shelf.publish(model)
    words = (
        "--gateway",
        "--plain",
        "--gateway-port",
        str(free_port()),
        "--gateway-metrics-port",
        "0",
        "--health-port",
        "0",
    )
    service = serve(*words)
    with Load(shelf.root, f"http://127.0.0.1:{words[3]}") as load:
        for step in steps:
            time.sleep(seconds / (len(steps) + 1))
            step(service)
            if service.process.poll() is not None:
                service = serve(*words)
            load.until_all_are_answered()
        time.sleep(seconds / (len(steps) + 1))
    one = load.callers[0]
    assert refused(one.place, one.token, "nothing") == 404
    assert refused(one.place, one.token[:-9], one.model) == 401
    time.sleep(10 * FLUSH_MS / 1000)
    assert told(shelf.root, "tenant") == load.counted("tenant")
    assert service.stop() == 0
    assert told(shelf.root, "tenant") == load.counted("tenant")
    assert told(shelf.root, "model") == load.counted("model")
    rows = {row.name: row for row in usage(repository=shelf.root).rows}
    assert all(rows[tenant].compute_s > 0 for tenant in TENANTS)
    assert rows.pop("-").refused > 0, "also those that came before the gateway knew of their new keys"
    assert {name: row.refused for name, row in rows.items() if row.refused} == {one.tenant: 1}


def reload(service):
    """Another tenant: the gateway takes in what has changed."""
    key(service.root, "another")


def restart(service):
    """Asked to end, it lets what it accepted be answered."""
    assert service.stop() == 0


def kill(service):
    """With SIGKILL; what it started goes on without it."""
    service.process.kill()
    service.process.wait(10)


def test_what_is_billed_is_what_was_answered(shelf, serve, free_port):
    """Over a reload of the gateway, a restart and a SIGKILL of the supervisor; told before it ends, and after."""
    hold(shelf, serve, free_port, [reload, restart, kill], 1.0)


@pytest.mark.soak
def test_what_is_billed_in_a_minute_is_what_was_answered(shelf, serve, free_port):
    hold(shelf, serve, free_port, [reload, restart, kill, restart, reload, kill], 60.0)


def test_an_envoy_that_is_killed_forgets_what_it_answered_just_before_and_nothing_else(shelf):
    """Its log is put aside again and again meanwhile, and counted to its end each time.

    What a killed Envoy had logged and not sent is billed and not answered: one request of each caller at most.
    """
    for model in MODELS:
        shelf.publish(model)
    with EmbeddedServer(shelf.root, models=MODELS, http_port=0, grpc_port=0, metrics_port=0) as server:
        front = gateways.Front(
            Gateway(shelf.root, Settings(port=0), log_bytes=30_000),
            lambda event: None,
            lambda: gateways.of(server.handle),
            lambda: gateways.statistics(server.handle),
        )
        front.start()
        logs = set()
        try:
            with Load(shelf.root, front.gateway.settings.url) as load:
                while len(logs) < 2:
                    with contextlib.suppress(FileNotFoundError), (front.gateway.folder / "access.log.1").open() as log:
                        logs.add(log.readline())
                    time.sleep(0.05)
                killed = time.monotonic()
                os.kill(front.gateway.pid, signal.SIGKILL)
                load.until_all_are_answered()
        finally:
            front.stop()
    billed, answered = (
        sum(one["answered"] for one in each.values()) for each in (told(shelf.root, "tenant"), load.counted("tenant"))
    )
    last = sum(-10 * FLUSH_MS < 1000 * (at - killed) < FLUSH_MS for one in load.callers for at, *_ in one.answered)
    assert last < answered / 2, "the bound says something"
    assert -len(load.callers) <= answered - billed <= last
