"""gRPC servers that refuse, reset, stall, or talk nonsense (G2)."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from modelport.client import AsyncClient, Client
from modelport.errors import DeadlineError, ModelNotFoundError, RemoteError, RequestError, UnreachableError

Code = grpc.StatusCode


class Script(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Reacts to its n-th metadata request with the n-th code, and with the last one from then on; None is success."""

    def __init__(self, *codes: Code | None, trailers: tuple[tuple[str, str], ...] = (), stall_s: float = 0.0) -> None:
        self._codes = codes
        self._trailers = trailers
        self._stall_s = stall_s
        self.words = "because"
        self.times: list[float] = []
        self.metadata: dict[str, str] = {}
        self.time_remaining = 0.0
        self.alive_at_end: bool | None = None
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self.server)
        self.url = f"grpc://127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    @property
    def requests(self) -> int:
        return len(self.times)

    def ModelMetadata(self, request: Any, context: Any) -> Any:
        self.times.append(time.monotonic())
        self.metadata = dict(context.invocation_metadata())
        self.time_remaining = context.time_remaining()
        time.sleep(self._stall_s)
        self.alive_at_end = context.is_active()
        code = self._codes[min(len(self.times), len(self._codes)) - 1]
        if code is not None:
            context.set_trailing_metadata(self._trailers)
            context.abort(code, self.words)
        tensor = service_pb2.ModelMetadataResponse.TensorMetadata(name="x", datatype="FP32", shape=[-1, 1])
        return service_pb2.ModelMetadataResponse(name="m", inputs=[tensor], outputs=[tensor])


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    """`script(*codes)`: start such a server."""
    started: list[Script] = []

    def start(*codes: Code | None, **options: Any) -> Script:
        started.append(Script(*codes, **options))
        return started[-1]

    yield start
    for server in started:
        server.server.stop(None).wait()


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED])
def test_what_may_pass_is_tried_again(ask, script, code):
    server = script(code, code, None)
    assert ask(server.url, "spec", "m").name == "m"
    assert server.requests == 3


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        (Code.INVALID_ARGUMENT, RequestError, 400),
        (Code.UNAUTHENTICATED, RequestError, 401),
        (Code.PERMISSION_DENIED, RequestError, 403),
        (Code.NOT_FOUND, RequestError, 404),
        (Code.INTERNAL, RemoteError, 500),
        (Code.UNKNOWN, RemoteError, 500),
        (Code.UNIMPLEMENTED, RemoteError, 501),
    ],
)
def test_what_will_not_pass_is_sent_once(ask, script, code, kind, status):
    server = script(code, None)
    with pytest.raises(kind) as caught:
        ask(server.url, "spec", "m")
    assert (server.requests, caught.value.status, caught.value.why) == (1, status, "because")


@pytest.mark.parametrize(
    ("code", "word", "status"),
    [
        (Code.RESOURCE_EXHAUSTED, "too_large", 413),
        (Code.UNKNOWN, "too_large", 413),
        (Code.UNIMPLEMENTED, "unsupported", 415),
    ],
)
def test_the_word_of_the_gateway_counts_where_the_code_says_less(ask, script, code, word, status):
    """A request that is too large is RESOURCE_EXHAUSTED too, and does not become smaller by waiting."""
    server = script(code, None, trailers=(("modelport-code", word),))
    with pytest.raises(RequestError) as caught:
        ask(server.url, "spec", "m")
    assert (server.requests, caught.value.status) == (1, status)


@pytest.mark.parametrize(("length", "words"), [(100_000, "because because"), (3_000_000, "too long to be sent")])
def test_a_long_error_text_is_the_error_and_not_a_reason_to_try_again(ask, script, length, words):
    """gRPC drops a call whose error text is longer than the client allows, and says RESOURCE_EXHAUSTED instead."""
    server = script(Code.INTERNAL)
    server.words = "because " * (length // 8)
    with pytest.raises(RemoteError, match="status 500") as caught:
        ask(server.url, "spec", "m")
    assert server.requests == 1 and words in caught.value.why


def test_retries_are_capped_and_the_last_failure_is_told(ask, script):
    server = script(Code.UNAVAILABLE)
    with pytest.raises(RemoteError) as caught:
        ask(server.url, "spec", "m", options={"retries": 2})
    assert (server.requests, caught.value.status) == (3, 503)
    assert caught.value.why == "because; this was the last of 3 tries"


@pytest.mark.alone
def test_retry_after_is_honoured(ask, script):
    server = script(Code.RESOURCE_EXHAUSTED, None, trailers=(("retry-after", "1"),))
    assert ask(server.url, "spec", "m").name == "m"
    assert 1.0 <= server.times[1] - server.times[0] <= 1.3


@pytest.mark.alone
def test_retries_stay_inside_the_deadline(ask, script):
    server = script(Code.UNAVAILABLE)
    begin = time.monotonic()
    with pytest.raises(RemoteError):
        ask(server.url, "spec", "m", timeout_s=0.5, options={"retries": 1000})
    assert time.monotonic() - begin <= 0.6
    assert 2 <= server.requests <= 7


@pytest.mark.alone
def test_a_slow_server_meets_the_deadline_and_is_told_of_none(ask, script):
    """The deadline is the client's alone: sent to the server it would cancel the call there."""
    server = script(None, stall_s=1.0)
    begin = time.monotonic()
    with pytest.raises(DeadlineError):
        ask(server.url, "spec", "m", timeout_s=0.2)
    assert 0.2 <= time.monotonic() - begin <= 0.4
    assert server.requests == 1 and server.time_remaining > 1e9


def test_a_late_call_is_never_cancelled_not_even_by_closing_the_client(script):
    """Cancelling could crash the server; the call lives on until it is answered, and the channel goes with it."""
    server = script(None, stall_s=0.5)
    client = Client(server.url)
    with client, pytest.raises(DeadlineError):
        client.spec("m", timeout_s=0.1)
    time.sleep(0.6)
    assert server.alive_at_end is True

    async def main() -> None:
        async with AsyncClient(server.url) as client:
            with pytest.raises(DeadlineError):
                await client.spec("m", timeout_s=0.1)
        server.alive_at_end = None
        await asyncio.sleep(0.6)

    asyncio.run(main())
    assert server.alive_at_end is True


def test_a_cancelled_call_would_be_seen(script):
    """The test above can fail: a client that sends a deadline does cancel."""
    server = script(None, stall_s=0.5)
    with grpc.insecure_channel(server.url.removeprefix("grpc://")) as channel, pytest.raises(grpc.RpcError):
        service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelMetadata(
            service_pb2.ModelMetadataRequest(name="m"), timeout=0.1
        )
    time.sleep(0.6)
    assert server.alive_at_end is False


def test_the_key_is_sent(ask, script):
    server = script(None)
    ask(server.url, "spec", "m", options={"token": "s3cret"})
    assert server.metadata["authorization"] == "Bearer s3cret"


def raw_server(react: Callable[[socket.socket], None]) -> tuple[socket.socket, str]:
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=react, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener, f"grpc://127.0.0.1:{listener.getsockname()[1]}"


def reset(sock: socket.socket) -> None:
    sock.recv(1024)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def garbage(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
    sock.close()


@pytest.mark.alone
@pytest.mark.parametrize("react", [reset, garbage])
def test_a_server_that_does_not_speak_grpc_is_unreachable(ask, react):
    listener, url = raw_server(react)
    with listener:
        begin = time.monotonic()
        with pytest.raises(UnreachableError):
            ask(url, "spec", "m", timeout_s=3)
        assert time.monotonic() - begin <= 3.1


@pytest.mark.alone
def test_a_server_that_says_nothing_meets_the_deadline(ask):
    listener, url = raw_server(lambda sock: time.sleep(3))
    with listener:
        begin = time.monotonic()
        with pytest.raises(DeadlineError):
            ask(url, "spec", "m", timeout_s=0.2)
        assert 0.2 <= time.monotonic() - begin <= 0.4


def test_a_server_that_comes_back_is_found_by_the_same_client(script):
    """gRPC remembers a failed connection for a while; a later call must not fail because of it."""
    server = script(None)
    port = int(server.url.rsplit(":", 1)[1])
    with Client(server.url, retries=10) as client:
        assert client.spec("m").name == "m"
        server.server.stop(None).wait()
        with pytest.raises((UnreachableError, DeadlineError)):
            client.spec("m", timeout_s=0.3)
        again = grpc.server(futures.ThreadPoolExecutor(1))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(server, again)
        again.add_insecure_port(f"127.0.0.1:{port}")
        again.start()
        begin = time.monotonic()
        assert client.spec("m").name == "m"
        assert time.monotonic() - begin < 3
        again.stop(None).wait()


def test_unknown_models_are_told_by_grpc_too(ask, script):
    class Unknown(Script):
        def ModelMetadata(self, request: Any, context: Any) -> Any:
            context.abort(Code.NOT_FOUND, "Request for unknown model: 'm' is not found")

    server = Unknown(None)
    with pytest.raises(ModelNotFoundError):
        ask(server.url, "spec", "m")
    server.server.stop(None).wait()
