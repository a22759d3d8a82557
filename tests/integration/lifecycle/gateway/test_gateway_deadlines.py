"""Deadlines (G1) and servers that refuse, reset, stall or talk nonsense (G2), through a gateway with TLS and keys."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import struct
import threading
import time
import urllib.error
import urllib.request
from concurrent import futures

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from modelport.bench import targets
from modelport.bench.asked import Asked
from modelport.client import AsyncClient, Client
from modelport.errors import DeadlineError, ModelNotFoundError, RemoteError, RequestError, UnavailableError, UsageError
from modelport.gateway import development_certificate
from modelport.gateway.gateway import Gateway
from modelport.gateway.keys import issue
from modelport.gateway.settings import Settings, Upstream
from modelport.server import EmbeddedServer, toolchain

FREE = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
X = np.array([[0.5, 0.25]], np.float32)
SLOW_S, NAP_S = 5.0, 0.3
LATE_S, NEXT_S = (0.1, 0.3), 3.0
PROTOCOLS = ("http", "grpc")
METADATA = {
    "name": "net",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}


class Secured:
    """A gateway with TLS in front of one server, and a key."""

    def __init__(self, repository, folder, http_port: int, grpc_port: int) -> None:
        own = development_certificate.ensure(repository)
        upstream = Upstream(host="127.0.0.1", http_port=http_port, grpc_port=grpc_port)
        settings = Settings(port=0, certificate=own.certificate, key=own.key, ca=own.ca, upstreams=(upstream,))
        self.gateway = Gateway(repository, settings, folder=folder)
        self.token = self.key("acme")
        self.options = {"token": self.token, "ca_file": own.ca}

    def key(self, tenant: str, **limits: float) -> str:
        now, models = int(time.time()), ("*",)
        return issue.create(self.gateway.repository, tenant, models, expires_s=3600, limits=limits, now=now).token

    def url(self, protocol: str) -> str:
        return f"{protocol}s://localhost:{self.gateway.settings.port}"

    def refused(self) -> int:
        """Requests that were answered with a status from 400 to 499 until now."""
        return self.gateway.admin.stat("http.front.downstream_rq_4xx")


@pytest.fixture(scope="module")
def server(shelf):
    """`net`, which is quick, `nap`, and `slow`, which takes 5 s."""
    shelf.publish("net")
    shelf.publish("slow", python={"execute": f"time.sleep({SLOW_S})"})
    shelf.publish("nap", python={"execute": f"time.sleep({NAP_S})"}, batch=1)
    with EmbeddedServer(shelf.root, models=("net", "slow", "nap"), **FREE) as running:
        yield running


@pytest.fixture(scope="module")
def secured(shelf, server):
    ports = [int(url.rpartition(":")[2]) for url in (server.http_url, server.grpc_url)]
    one = Secured(shelf.root, None, *ports)
    one.gateway.start()
    yield one
    one.gateway.stop(drain_s=0)


CALLS = {
    "infer": lambda client: client.infer("net", x=X, timeout_s=0.1),
    "pinned": lambda client: client.infer("net", version=1, x=X, timeout_s=0.1),
    "classify": lambda client: client.classify("net", 1, output="y", x=X, timeout_s=0.1),
    "spec": lambda client: client.spec("net", timeout_s=0.1),
    "ready": lambda client: client.ready("net", timeout_s=0.1),
    "server": lambda client: client.ready(timeout_s=0.1),
}


def outcome(began: float, result: object) -> tuple[object, bool]:
    """What came, and whether it came in time."""
    return result, LATE_S[0] <= time.monotonic() - began <= LATE_S[1]


@pytest.mark.alone
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_deadline_ends_every_kind_of_call_in_time_and_the_next_one_works(secured, server, protocol):
    """G1, sync: 0.1 s on a server that does not answer, in 0.1 to 0.3 s, with the same client still good."""
    with Client(secured.url(protocol), **secured.options) as client:
        client.spec("net"), client.infer("net", version=1, x=X)
        got = {}
        for name, ask in CALLS.items():
            os.kill(server.pid, signal.SIGSTOP)
            began = time.monotonic()
            try:
                got[name] = outcome(began, ask(client))
            except DeadlineError:
                got[name] = outcome(began, DeadlineError)
            finally:
                os.kill(server.pid, signal.SIGCONT)
            assert client.infer("net", x=X, timeout_s=NEXT_S)["y"][0, 0] == 1
    late = dict.fromkeys(("infer", "pinned", "classify", "spec"), (DeadlineError, True))
    assert got == late | dict.fromkeys(("ready", "server"), (False, True))


@pytest.mark.alone
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_deadline_ends_every_kind_of_asyncio_call_in_time_and_the_next_one_works(secured, server, protocol):
    """G1, asyncio."""

    async def main() -> dict[str, tuple[object, bool]]:
        got = {}
        async with AsyncClient(secured.url(protocol), **secured.options) as client:
            await client.spec("net")
            await client.infer("net", version=1, x=X)
            for name, ask in CALLS.items():
                os.kill(server.pid, signal.SIGSTOP)
                began = time.monotonic()
                try:
                    got[name] = outcome(began, await ask(client))
                except DeadlineError:
                    got[name] = outcome(began, DeadlineError)
                finally:
                    os.kill(server.pid, signal.SIGCONT)
                assert (await client.infer("net", x=X, timeout_s=NEXT_S))["y"][0, 0] == 1
        return got

    late = dict.fromkeys(("infer", "pinned", "classify", "spec"), (DeadlineError, True))
    assert asyncio.run(main()) == late | dict.fromkeys(("ready", "server"), (False, True))


@pytest.mark.alone
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_model_that_takes_5_s_is_given_up_after_0_1_s(secured, server, protocol):
    """G1 with a model that runs: the caller is gone in time, the server is well, and the next call is answered."""
    pid = server.pid
    with Client(secured.url(protocol), **secured.options) as client:
        client.spec("slow")
        began = time.monotonic()
        with pytest.raises(DeadlineError):
            client.infer("slow", x=X, timeout_s=0.1)
        assert LATE_S[0] <= time.monotonic() - began <= LATE_S[1]
        assert client.infer("net", x=X, timeout_s=NEXT_S)["y"][0, 0] == 1
    assert server.running and server.pid == pid


def test_a_call_over_grpc_that_its_caller_cancels_is_not_cancelled_in_the_server(secured, server, require):
    """Cancelled while they run and wait, all are run to their end: what a cancellation meets could end Triton 2.51."""
    require("the compiled parts", present=toolchain.SEND.is_file())
    message = service_pb2.ModelInferRequest(model_name="nap", raw_input_contents=[X.tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=X.shape)
    key = [("authorization", f"Bearer {secured.token}")]
    credentials = grpc.ssl_channel_credentials(secured.options["ca_file"].read_bytes())
    with grpc.secure_channel(secured.url("grpc").partition("//")[2], credentials) as channel:
        ask = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        assert ask(message, timeout=NEXT_S, metadata=key)
        calls = [ask.future(message, timeout=NAP_S / 3, metadata=key) for _ in range(4)]
        assert {call.code() for call in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        assert ask(message, timeout=NEXT_S, metadata=key)
    [counts] = server.handle.statistics("nap")
    assert {word: int(counts["inference_stats"][word]["count"]) for word in ("success", "fail")} == {
        "success": 6,
        "fail": 0,
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_key_is_handed_to_perf_analyzer(secured, shelf, tmp_path, monkeypatch, protocol):
    """Whoever asks to measure the gateway, with a key at hand or without, is told what to do instead."""
    for token in ("", secured.token):
        monkeypatch.setenv("MODELPORT_TOKEN", token)
        wanted = Asked(
            reference="net", url=secured.url(protocol), repository=shelf.root, ca_file=secured.options["ca_file"]
        )
        with contextlib.ExitStack() as stack, pytest.raises(UsageError, match="it wants a key") as caught:
            targets.jobs(wanted, tmp_path, stack, print)
        assert "modelport bench net" in caught.value.fix and secured.token not in str(caught.value)


# ------------------------------------------------------------------------------------------- G2: what is sent again


def answer(status: int, body: bytes = b'{"error":"because"}', headers: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


OK = answer(200, json.dumps(METADATA).encode())
RESET, CUT, SILENT = b"", b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{", None
GARBAGE = b"SSH-2.0-OpenSSH_9.2\r\n"


class Web:
    """Answers its n-th request over HTTP with the n-th reaction, and with the last one from then on."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.reactions: tuple[bytes | None, ...] = (OK,)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def plays(self, *reactions: bytes | None) -> None:
        self.times, self.reactions = [], reactions

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            try:
                while sock.recv(65536):
                    self.times.append(time.monotonic())
                    reaction = self.reactions[min(len(self.times), len(self.reactions)) - 1]
                    if reaction is SILENT:
                        sock.recv(1)
                    if reaction == RESET:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    sock.sendall(reaction or b"")
                    if reaction in (RESET, CUT, GARBAGE):
                        return
            except OSError:
                return

    def close(self) -> None:
        self._listener.close()


class Rpc(service_pb2_grpc.GRPCInferenceServiceServicer):
    """The same over gRPC, with codes; None is success."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.codes: tuple[grpc.StatusCode | None, ...] = (None,)
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def plays(self, *codes: grpc.StatusCode | None) -> None:
        self.times, self.codes = [], codes

    def ModelMetadata(self, request, context):
        self.times.append(time.monotonic())
        code = self.codes[min(len(self.times), len(self.codes)) - 1]
        if code is not None:
            context.abort(code, "because /usr/lib/secret.py")
        tensor = service_pb2.ModelMetadataResponse.TensorMetadata(name="x", datatype="FP32", shape=[-1, 2])
        return service_pb2.ModelMetadataResponse(name="net", inputs=[tensor], outputs=[tensor])

    def close(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture(scope="module")
def web():
    one = Web()
    yield one
    one.close()


@pytest.fixture(scope="module")
def rpc():
    one = Rpc()
    yield one
    one.close()


@pytest.fixture(scope="module")
def played(shelf, server, web, rpc):
    """A gateway in front of `web` and `rpc`."""
    one = Secured(shelf.root, shelf.root.parent / "played", web.port, rpc.port)
    one.hasty = one.key("hasty", rate_per_s=1.0, burst=1)
    one.gateway.start()
    yield one
    one.gateway.stop(drain_s=0)


def spec(place: Secured, protocol: str, *, timeout_s: float = 10.0, retries: int = 3, **options: object) -> str:
    with Client(place.url(protocol), retries=retries, **{**place.options, **options}) as client:
        return client.spec("net", timeout_s=timeout_s).name


@pytest.mark.parametrize("failure", [answer(503), answer(502), RESET, GARBAGE], ids=["503", "502", "reset", "garbage"])
def test_what_may_pass_is_tried_again_over_http(played, web, failure):
    web.plays(failure, OK)
    assert spec(played, "http") == "net"
    assert len(web.times) == 2


def test_what_may_pass_is_tried_again_over_grpc(played, rpc):
    for code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
        rpc.plays(code, None)
        assert spec(played, "grpc") == "net"
        assert len(rpc.times) == 2


def test_a_limit_of_the_server_is_told_as_that_and_not_as_the_callers_fault(played, web, rpc):
    """429 and RESOURCE_EXHAUSTED from behind: 503 and UNAVAILABLE, to be tried again; its words reach nobody."""
    web.plays(answer(429))
    place = urllib.request.Request(f"{played.url('http')}/v2/models/net")
    place.add_header("authorization", f"Bearer {played.token}")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(place, context=ssl.create_default_context(cafile=played.options["ca_file"]), timeout=5)
    with caught.value as said:
        assert (said.code, said.headers["retry-after"]) == (503, "1")
        assert json.loads(said.read()) == {
            "code": "overloaded",
            "error": "the server has more requests than it can answer",
        }
    rpc.plays(grpc.StatusCode.RESOURCE_EXHAUSTED)
    with pytest.raises(UnavailableError, match="more requests than it can answer") as caught:
        spec(played, "grpc", retries=0)
    assert caught.value.status == 503 and "secret" not in str(caught.value)


def test_tries_are_capped_and_the_last_failure_is_told(played, web, rpc):
    """Ours by the client, and those of the gateway: never more than three for one of the client's."""
    web.plays(RESET)
    with pytest.raises(UnavailableError, match="last of 2 tries") as caught:
        spec(played, "http", retries=1)
    assert 2 <= len(web.times) <= 6 and caught.value.status in (502, 503)
    rpc.plays(grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(UnavailableError, match="last of 3 tries") as caught:
        spec(played, "grpc", retries=2)
    assert len(rpc.times) == 3 and caught.value.status == 503
    assert "secret" not in str(caught.value)


def test_waits_follow_what_the_gateway_says_and_end_inside_the_deadline(played, web):
    """A full server is to be asked again after a second; where there is no second left, the call ends at once."""
    web.plays(answer(503), OK)
    assert spec(played, "http") == "net"
    assert 1.0 <= web.times[1] - web.times[0] <= 1.4
    web.plays(answer(503), OK)
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="longer than the deadline leaves") as caught:
        spec(played, "http", timeout_s=0.9)
    assert time.monotonic() - began < 0.5 and caught.value.retry_after_s == 1
    assert len(web.times) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_key_that_asks_too_often_waits_as_long_as_it_is_told(played, web, rpc, protocol):
    """429 or RESOURCE_EXHAUSTED, with its delay; refused requests reach no server."""
    script = web if protocol == "http" else rpc
    script.plays(OK if protocol == "http" else None)
    with Client(played.url(protocol), **{**played.options, "token": played.hasty}) as client:
        time.sleep(1.1)
        assert client.spec("net").name == "net"
        began = time.monotonic()
        assert client.spec("net").name == "net"
        assert 1.0 <= time.monotonic() - began <= 2.6
        assert len(script.times) == 2
        began = time.monotonic()
        with pytest.raises(UnavailableError, match="too many requests") as caught:
            client.spec("net", timeout_s=0.5)
    assert time.monotonic() - began < 0.4
    assert (caught.value.status, caught.value.retry_after_s) == (429, 1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_will_not_pass_is_sent_once(played, web, rpc, protocol):
    """Refusals by the gateway (401, 403, 404) and by the server behind it (400, 500) are final."""
    script = web if protocol == "http" else rpc
    script.plays(OK if protocol == "http" else None)
    before = played.refused()
    with pytest.raises(RequestError) as caught:
        spec(played, protocol, token=played.token[:-8] + "AAAAAAAA")
    assert caught.value.status == 401
    with Client(played.url(protocol), **played.options) as client, pytest.raises(ModelNotFoundError):
        client.spec("nobody")
    assert script.times == []
    if protocol == "http":
        assert played.refused() == before + 2
    for http, code, kind, status in (
        (400, grpc.StatusCode.INVALID_ARGUMENT, RequestError, 400),
        (500, grpc.StatusCode.INTERNAL, RemoteError, 500),
    ):
        script.plays(*((answer(http), OK) if protocol == "http" else (code, None)))
        with pytest.raises(kind) as caught:
            spec(played, protocol)
        assert (len(script.times), caught.value.status) == (1, status)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_is_away_is_told_apart_from_a_gateway_that_is(shelf, server, free_port, protocol):
    """Behind the gateway nothing listens: 503, tried again and capped; that is not the caller's connection."""
    away = Secured(shelf.root, shelf.root.parent / f"away-{protocol}", free_port(), free_port())
    away.gateway.start()
    try:
        began = time.monotonic()
        with pytest.raises(UnavailableError, match="last of 2 tries") as caught:
            spec(away, protocol, retries=1)
        assert caught.value.status == 503 and time.monotonic() - began < 3
    finally:
        away.gateway.stop(drain_s=0)


def test_an_answer_that_ends_in_the_middle_or_never_comes_is_an_error_in_time(played, web):
    web.plays(CUT, OK)
    assert spec(played, "http") == "net"
    web.plays(SILENT)
    began = time.monotonic()
    with pytest.raises(DeadlineError):
        spec(played, "http", timeout_s=0.3)
    assert 0.3 <= time.monotonic() - began <= 0.6
    assert len(web.times) == 1
