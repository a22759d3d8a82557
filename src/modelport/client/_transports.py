"""Which transport carries a URL's calls. gRPC and aiohttp are imported by the first client that needs them."""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from modelport.client._calls import Answer, Call
from modelport.client._connection import Target
from modelport.client._policy import Deadline

_SYNC = {False: ("_http_sync", "HttpTransport"), True: ("_grpc_sync", "GrpcTransport")}
_ASYNC = {False: ("_http_aio", "AsyncHttpTransport"), True: ("_grpc_aio", "AsyncGrpcTransport")}


class Transport(Protocol):
    """Carries one call at a time per thread."""

    def call(self, call: Call, deadline: Deadline) -> Answer:
        """Send a call and wait for its answer."""

    def close(self) -> None:
        """Let the connections go."""


class AsyncTransport(Protocol):
    """The same within an event loop."""

    async def call(self, call: Call, deadline: Deadline) -> Answer:
        """Send a call and wait for its answer."""

    async def close(self) -> None:
        """Let the connections go."""


def open_transport(target: Target, concurrency: int) -> Transport:
    """A transport for the target's scheme. Nothing is connected yet."""
    return cast(Transport, _make(_SYNC, target, concurrency))


def open_async_transport(target: Target, concurrency: int) -> AsyncTransport:
    """An asyncio transport for the target's scheme. Nothing is connected yet."""
    return cast(AsyncTransport, _make(_ASYNC, target, concurrency))


def _make(table: dict[bool, tuple[str, str]], target: Target, concurrency: int) -> object:
    module, name = table[target.is_grpc]
    return getattr(importlib.import_module(f"modelport.client.{module}"), name)(target, concurrency)
