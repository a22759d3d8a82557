"""What a transport does when its own machine, not the server, makes a call fail."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import aiohttp
import pytest

from modelport.client import _grpc, _http_sync
from modelport.client._calls import Infer, Metadata, Ready, Tensor
from modelport.client._connection import parse_target
from modelport.client._grpc_aio import AsyncGrpcTransport
from modelport.client._grpc_sync import GrpcTransport
from modelport.client._http_aio import AsyncHttpTransport
from modelport.client._policy import Deadline
from modelport.errors import ClientError, RequestError, UnreachableError
from modelport.spec import dtype_of

ASK = Metadata(model="m", version=None)
UNSENDABLE = Metadata(model="\ud800", version=None)  # protobuf takes no lone surrogate
INFER = Infer(
    model="m",
    version=None,
    inputs=(Tensor(name="x", dtype=dtype_of("UINT8"), shape=(4,), data=bytes(4)),),
    outputs=(),
    classes=0,
)


def call_grpc(transport: GrpcTransport | AsyncGrpcTransport, *calls: Any) -> list[BaseException]:
    """The errors of these calls, one after the other."""
    errors: list[BaseException] = []

    async def go() -> None:
        for call in calls:
            try:
                answer = transport.call(call, Deadline(2))
                if asyncio.iscoroutine(answer):
                    await answer
            except Exception as error:
                errors.append(error)
        closing = transport.close()
        if closing is not None:
            await closing

    asyncio.run(go())
    return errors


def test_an_address_of_a_family_that_is_switched_off_is_passed_over(monkeypatch):
    """As with localhost, first ::1 and then 127.0.0.1, where there is no IPv6."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = parse_target(f"http://127.0.0.1:{listener.getsockname()[1]}")
        good = (socket.AF_INET, socket.SOCK_STREAM, 0, "", listener.getsockname())
        none = (999, socket.SOCK_STREAM, 0, "", ("::1", 1))
        monkeypatch.setattr(_http_sync, "_resolve", lambda *_: [none, good])
        _http_sync._connect(target, None, Deadline(2)).close()
        monkeypatch.setattr(_http_sync, "_resolve", lambda *_: [none])
        with pytest.raises(OSError, match="not supported"):
            _http_sync._connect(target, None, Deadline(2))


@pytest.mark.parametrize(
    "failure",
    [
        aiohttp.ClientConnectionResetError("Cannot write to closing transport"),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientOSError(104, "reset"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_connection_that_breaks_under_asyncio_may_be_tried_again(failure):
    class Broken(AsyncHttpTransport):
        async def _exchange(self, *_: Any) -> Any:
            raise failure

    async def go() -> None:
        await Broken(parse_target("http://127.0.0.1:1"), 1).call(ASK, Deadline(2))

    with pytest.raises(UnreachableError) as caught:
        asyncio.run(go())
    assert caught.value.retryable


@pytest.mark.parametrize("kind", [GrpcTransport, AsyncGrpcTransport])
def test_a_message_that_cannot_be_made_gives_its_place_back(kind, free_port):
    """With one place: the second call gets as far as the port where nobody listens."""
    first, second = call_grpc(kind(parse_target(f"grpc://127.0.0.1:{free_port()}"), 1), UNSENDABLE, ASK)
    assert isinstance(first, ValueError) and isinstance(second, UnreachableError)


@pytest.mark.parametrize("kind", [GrpcTransport, AsyncGrpcTransport])
def test_more_than_a_grpc_message_holds_is_refused_before_sending(kind, free_port, monkeypatch):
    monkeypatch.setattr(_grpc, "MAX_INPUT_BYTES", 3)
    first, second = call_grpc(kind(parse_target(f"grpc://127.0.0.1:{free_port()}"), 1), INFER, ASK)
    assert isinstance(first, RequestError) and "4 bytes" in first.what and "HTTP" in first.fix
    assert isinstance(second, UnreachableError)


@pytest.mark.parametrize("kind", [GrpcTransport, AsyncGrpcTransport])
def test_a_client_that_is_closed_while_a_call_waits_for_its_place_says_so(kind, free_port):
    """Neither ValueError nor the library's own error comes through."""

    class ClosedMeanwhile(kind):
        def _send(self, call: Any) -> Any:
            self._closed = True
            return super()._send(call)

    (error,) = call_grpc(
        ClosedMeanwhile(parse_target(f"grpc://127.0.0.1:{free_port()}"), 1), Ready(model=None, version=None)
    )
    assert isinstance(error, ClientError) and "is closed" in error.what
