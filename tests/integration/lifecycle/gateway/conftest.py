"""A gateway in front of servers whose answers tell which version they are, with keys for tenants."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from modelport.gateway.gateway import Gateway
from modelport.gateway.keys import issue
from modelport.gateway.settings import Settings, Upstream
from modelport.server import EmbeddedServer

X = np.array([[0.5, 0.25]], np.float32)
BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 0.25]}]})
STATUS = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.DEADLINE_EXCEEDED: 0,
}
SLOW_S = 0.25
TAKEN_S = 0.1  # until Envoy has taken files that were replaced


@dataclass(frozen=True)
class Got:
    """An answer: 200 with who answered, or the status of a refusal with its text."""

    status: int
    value: float | None
    error: str
    retry_after_s: float | None
    took_s: float


class Front:
    """A gateway, and requests to it."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    @property
    def http_url(self) -> str:
        return self.gateway.settings.url

    @property
    def grpc_url(self) -> str:
        return self.http_url.replace("http", "grpc", 1)

    def key(self, tenant: str, **limits: Any) -> str:
        """A token; the gateway knows of it."""
        now = int(time.time())
        given = issue.create(self.gateway.repository, tenant, ("*",), expires_s=3600, limits=limits, now=now)
        self.gateway.refresh()
        time.sleep(TAKEN_S)
        return given.token

    def revoke(self, token: str) -> None:
        """The key is not taken any more."""
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        issue.revoke(self.gateway.repository, [claims["jti"]], None, now=int(time.time()))
        self.gateway.refresh()

    def ask(self, token: str, protocol: str = "http", *, model: str = "net", timeout_s: float = 10.0) -> Got:
        """One inference, and nothing beside it."""
        began = time.monotonic()
        try:
            status, value, error, retry_after = getattr(self, f"_{protocol}")(token, model, timeout_s)
        except (OSError, http.client.HTTPException) as exc:
            status, value, error, retry_after = 0, None, repr(exc), None
        after_s = None if retry_after is None else float(retry_after)
        return Got(status, value, error, after_s, time.monotonic() - began)

    def _http(self, token: str, model: str, timeout_s: float) -> tuple[int, float | None, str, str | None]:
        place = urlsplit(self.http_url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=timeout_s)
        try:
            connection.request("POST", f"/v2/models/{model}/infer", BODY, {"authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            content = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 200:
            return answer.status, None, content["error"], answer.headers.get("retry-after")
        return 200, content["outputs"][0]["data"][0], "", None

    def _grpc(self, token: str, model: str, timeout_s: float) -> tuple[int, float | None, str, str | None]:
        message = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[X.tobytes()])
        message.inputs.add(name="x", datatype="FP32", shape=X.shape)
        with grpc.insecure_channel(urlsplit(self.http_url).netloc) as channel:
            ask = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
            try:
                reply = ask(message, timeout=timeout_s, metadata=[("authorization", f"Bearer {token}")])
            except grpc.RpcError as exc:
                said = dict(exc.initial_metadata() or ()) | dict(exc.trailing_metadata() or ())
                return STATUS[exc.code()], None, exc.details(), said.get("retry-after")
        return 200, float(np.frombuffer(reply.raw_output_contents[0], np.float32)[0]), "", None

    def at_once(self, count: int, token: str, protocols: Sequence[str] = ("http", "grpc"), **options: Any) -> list[Got]:
        """So many requests at the same time, the protocols in turn."""
        with ThreadPoolExecutor(count) as pool:
            asked = [
                pool.submit(self.ask, token, protocols[number % len(protocols)], **options) for number in range(count)
            ]
            return [one.result() for one in asked]

    def until(self, status: int, token: str, *, within_s: float = 5.0, **options: Any) -> float:
        """Seconds until a request is answered so."""
        began = time.monotonic()
        while (got := self.ask(token, **options)).status != status:
            assert time.monotonic() - began < within_s, got
            time.sleep(0.02)
        return time.monotonic() - began


def statuses(answers: Sequence[Got]) -> dict[int, int]:
    return dict(Counter(one.status for one in answers))


def upstream_of(server: Any) -> Upstream:
    http, grpc = urlsplit(server.http_url), urlsplit(server.grpc_url)
    return Upstream(host=http.hostname or "", http_port=http.port or 0, grpc_port=grpc.port or 0)


@pytest.fixture
def count() -> Callable[[Sequence[Got]], dict[int, int]]:
    """`count(answers)`: how many there are of each status."""
    return statuses


@pytest.fixture(scope="module")
def make_server(shelf: Any, isolated: bool) -> Iterator[Callable[..., EmbeddedServer]]:
    """`make_server(ports, models)`: one more server of the same repository; without ports, on free ones."""
    made: list[EmbeddedServer] = []

    def make(ports: Sequence[int] = (0, 0, 0), models: Sequence[str] = ("net",)) -> EmbeddedServer:
        named = dict(zip(("http_port", "grpc_port", "metrics_port"), ports, strict=True))
        made.append(EmbeddedServer(shelf.root, models=models, isolated=isolated, **named))
        return made[-1].start()

    yield make
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(EmbeddedServer.stop, made))


@pytest.fixture(scope="module")
def server(shelf: Any, make_server: Callable[..., EmbeddedServer]) -> EmbeddedServer:
    """A server with `net`, which is quick, and `slow`."""
    shelf.publish("net")
    shelf.publish("slow", python={"execute": f"time.sleep({SLOW_S})"}, batch=1)
    return make_server(models=("net", "slow"))


@pytest.fixture(scope="module")
def make_gateway(shelf: Any, make_server: object) -> Iterator[Callable[..., Front]]:
    """`make_gateway(server, ...)`: a gateway without TLS, started; the settings and `today` by name.

    It ends before the servers: Triton waits for those who have a connection.
    """
    with contextlib.ExitStack() as stack:

        def make(*servers: Any, **options: Any) -> Front:
            own = {name: options.pop(name) for name in ("today", "log_bytes", "folder") if name in options}
            settings = Settings(port=0, upstreams=tuple(map(upstream_of, servers)), **options)
            gateway = Gateway(shelf.root, settings, **own)
            stack.callback(gateway.stop, drain_s=0)
            gateway.start()
            return Front(gateway)

        yield make


@pytest.fixture(scope="session")
def asking() -> type[Front]:
    """`asking(gateway)`: see `Front`; a gateway is something with `repository`, `settings.url` and `refresh()`."""
    return Front


@pytest.fixture(scope="session")
def slow_s() -> float:
    """How long `slow` takes."""
    return SLOW_S


@pytest.fixture
def kill() -> Callable[[int], None]:
    """`kill(pid)`: with SIGKILL."""
    return lambda pid: os.kill(pid, signal.SIGKILL)
