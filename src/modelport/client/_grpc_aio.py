"""gRPC for the asyncio client: one channel within one event loop."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2_grpc

from modelport.client import _errors
from modelport.client._calls import Answer, Call
from modelport.client._connection import Target
from modelport.client._grpc import OPTIONS, answer_from, credentials, error_from, message_for
from modelport.client._places import take_place
from modelport.client._policy import Deadline


class AsyncGrpcTransport:
    """Carries calls over gRPC; abandons a call that is late, or whose task is cancelled (see `_grpc`).

    Args:
        target: The server.
        concurrency: Most calls at once, abandoned ones included.
    """

    def __init__(self, target: Target, concurrency: int) -> None:
        self._target = target
        self._concurrency = concurrency
        self._places = asyncio.Semaphore(concurrency)
        self._credentials = credentials(target)
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None
        self._metadata = tuple(target.headers().items())
        self._unanswered: set[asyncio.Future[Any]] = set()
        self._closed = False
        self._closing: asyncio.Future[None] | None = None

    async def call(self, call: Call, deadline: Deadline) -> Answer:
        """Send one call and wait for its answer.

        Raises:
            ModelportError: There is no good answer by the deadline.
        """
        if self._closed:
            raise _errors.closed(self._target)
        await take_place(self._places, self._concurrency, self._target, call, deadline)
        answer = self._send(call)
        await asyncio.wait({answer}, timeout=deadline.remaining_s())
        if not answer.done():
            raise _errors.late(self._target, call, deadline.timeout_s)
        try:
            return answer_from(self._target, call, answer.result())
        except grpc.RpcError as error:
            failure = error_from(self._target, call, error, deadline.timeout_s)
            if failure is None:
                return False
            raise failure from error

    def _send(self, call: Call) -> asyncio.Future[Any]:
        """A task of its own, which goes on when the caller's ends."""
        try:
            if self._closed:  # while it waited for its place
                raise _errors.closed(self._target)
            method, message = message_for(call)
            answer = asyncio.ensure_future(_wait(getattr(self._opened(), method)(message, metadata=self._metadata)))
        except BaseException:
            self._places.release()
            raise
        self._unanswered.add(answer)
        answer.add_done_callback(self._answered)
        return answer

    def _opened(self) -> Any:
        """The stub, whose channel is made inside of the running loop by the first call."""
        if self._stub is None:
            if self._credentials is None:
                self._channel = grpc.aio.insecure_channel(self._target.authority, options=OPTIONS)
            else:
                self._channel = grpc.aio.secure_channel(self._target.authority, self._credentials, options=OPTIONS)
            self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        return self._stub

    def _answered(self, answer: asyncio.Future[Any]) -> None:
        self._places.release()
        self._unanswered.discard(answer)
        if not answer.cancelled():
            answer.exception()  # perhaps nobody waits for it any more
        if self._closed and not self._unanswered and self._channel is not None:
            self._closing = asyncio.ensure_future(self._channel.close())

    async def close(self) -> None:
        """Close the channel; with unanswered calls, when the last of them is answered."""
        self._closed = True
        if not self._unanswered and self._channel is not None:
            await self._channel.close()


async def _wait(call: Any) -> Any:
    return await call
