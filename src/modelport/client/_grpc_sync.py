"""gRPC for the sync client. One channel, which threads may share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc
from tritonclient.grpc import service_pb2_grpc

from modelport.client import _errors
from modelport.client._calls import Answer, Call
from modelport.client._connection import Target
from modelport.client._grpc import OPTIONS, answer_from, credentials, error_from, message_for
from modelport.client._policy import Deadline
from modelport.client._workers import Workers


class GrpcTransport:
    """Carries calls over gRPC; abandons a call that is late instead of cancelling it (see `_grpc`).

    Args:
        target: The server.
        concurrency: Most calls at once, abandoned ones included.
    """

    def __init__(self, target: Target, concurrency: int) -> None:
        self._target = target
        self._concurrency = concurrency
        self._places = threading.Semaphore(concurrency)
        secret = credentials(target)
        self._channel = (
            grpc.insecure_channel(target.authority, options=OPTIONS)
            if secret is None
            else grpc.secure_channel(target.authority, secret, options=OPTIONS)
        )
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._metadata = tuple(target.headers().items())
        self._workers = Workers()
        self._lock = threading.Lock()
        self._unanswered = 0
        self._closed = False

    def call(self, call: Call, deadline: Deadline) -> Answer:
        """Send one call and wait for its answer.

        Raises:
            ModelportError: There is no good answer by the deadline.
        """
        if self._closed:
            raise _errors.closed(self._target)
        if not self._places.acquire(timeout=deadline.remaining_s()):
            raise _errors.no_place(self._target, call, deadline.timeout_s, self._concurrency)
        work = self._send(call)
        try:
            answer = self._workers.run(work, deadline.remaining_s())
        except TimeoutError as error:
            raise _errors.late(self._target, call, deadline.timeout_s) from error
        except grpc.RpcError as error:
            failure = error_from(self._target, call, error, deadline.timeout_s)
            if failure is None:
                return False
            raise failure from error
        return answer_from(self._target, call, answer)

    def _send(self, call: Call) -> Callable[[], Any]:
        """The work for a thread: send the call, wait, and give its place back when the answer has come."""
        try:
            method, message = message_for(call)
            with self._lock:  # close() comes before or after, not between
                if self._closed:
                    raise _errors.closed(self._target)
                self._unanswered += 1
        except BaseException:
            self._places.release()
            raise

        def ask() -> Any:
            try:
                return getattr(self._stub, method)(message, metadata=self._metadata)
            finally:
                self._answered()

        return ask

    def _answered(self) -> None:
        self._places.release()
        with self._lock:
            self._unanswered -= 1
            last = self._closed and not self._unanswered
        if last:
            self._channel.close()

    def close(self) -> None:
        """Close the channel; with unanswered calls, when the last of them is answered."""
        with self._lock:
            self._closed = True
            waiting = bool(self._unanswered)
        self._workers.close()
        if not waiting:
            self._channel.close()
