"""gRPC for the sync client. One channel, which threads may share."""

from __future__ import annotations

import threading
from typing import Any

import grpc
from tritonclient.grpc import service_pb2_grpc

from modelport.client import _errors
from modelport.client._calls import Answer, Call
from modelport.client._connection import Target
from modelport.client._grpc import OPTIONS, answer_from, credentials, error_from, message_for
from modelport.client._policy import Deadline


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
        self._lock = threading.Lock()
        self._unanswered: set[Any] = set()
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
        try:
            future = self._send(call)
            answer = future.result(deadline.remaining_s())
        except grpc.FutureTimeoutError as error:
            raise _errors.late(self._target, call, deadline.timeout_s) from error
        except grpc.RpcError as error:
            failure = error_from(self._target, call, error, deadline.timeout_s)
            if failure is None:
                return False
            raise failure from error
        return answer_from(self._target, call, answer)

    def _send(self, call: Call) -> Any:
        """A future that is kept until it is answered: one that is thrown away cancels its call."""
        try:
            method, message = message_for(call)
            with self._lock:  # close() comes before or after, not between
                if self._closed:
                    raise _errors.closed(self._target)
                future = getattr(self._stub, method).future(message, metadata=self._metadata)
                self._unanswered.add(future)
        except BaseException:
            self._places.release()
            raise
        future.add_done_callback(self._answered)
        return future

    def _answered(self, future: Any) -> None:
        self._places.release()
        with self._lock:
            self._unanswered.discard(future)
            last = self._closed and not self._unanswered
        if last:  # not in this thread, which is one of the channel's
            threading.Thread(target=self._channel.close, daemon=True, name="modelport-close").start()

    def close(self) -> None:
        """Close the channel; with unanswered calls, when the last of them is answered."""
        with self._lock:
            self._closed = True
            waiting = bool(self._unanswered)
        if not waiting:
            self._channel.close()
