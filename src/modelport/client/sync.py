"""`Client`: asks a Triton server for inference, over HTTP or gRPC."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar, cast

from modelport.client import _options
from modelport.client._calls import Answer, Call
from modelport.client._connection import parse_target
from modelport.client._policy import Deadline
from modelport.client._session import Ranked, Session, Steps
from modelport.client._tensors import Array
from modelport.client._transports import open_transport
from modelport.errors import ClientError, ModelportError
from modelport.spec import ModelSpec

T = TypeVar("T")


class Client:
    """Asks a Triton server for inference.

        with Client("http://127.0.0.1:8000") as client:
            scores = client.infer("digits_cnn", image=image)["probabilities"]

    One client may be used by any number of threads: over HTTP each call takes a connection of its own from a pool,
    over gRPC all share one channel. Make one client and keep it; connections and the models' metadata are reused.

    A deadline holds for the whole call: waiting for a free place, connecting, retries and the pauses between them. What
    is sent again, and when, is told in `modelport.client._policy`. Over gRPC a call that is late is abandoned, not
    cancelled, because cancelling can crash Triton before 25.02 (`modelport.client._grpc` has the details): the server
    finishes it. Over HTTP its connection is closed, which these servers survive.

    Proxies from the environment are not used, redirects are not followed. A process that forks makes its clients after
    the fork.

    Args:
        url: `http://`, `https://`, `grpc://` or `grpcs://`, host and port, such as `grpc://127.0.0.1:8001`. Without a
            port: 80, 443, 8001, 443.
        timeout_s: Deadline of a call that gives none of its own.
        retries: How often a call is sent again at most; 0 for never.
        token: Bearer token. None takes the environment variable MODELPORT_TOKEN; an empty text sends none.
        ca_file: PEM file with the only authorities to trust for the server's certificate. None takes the environment
            variable MODELPORT_CA, and the system's authorities where there is none.
        client_cert: PEM file with the caller's own certificate.
        client_key: PEM file with its key.
        verify_tls: False accepts any certificate. https only.
        concurrency: Most calls on the way at once; further threads wait for a place, within their deadlines.

    Raises:
        UsageError: The options, all problems together. Nothing is connected yet.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 10.0,
        retries: int = 3,
        token: str | None = None,
        ca_file: str | Path | None = None,
        client_cert: str | Path | None = None,
        client_key: str | Path | None = None,
        verify_tls: bool = True,
        concurrency: int = 100,
    ) -> None:
        _options.check_options(timeout_s=timeout_s, retries=retries, concurrency=concurrency)
        self._target = parse_target(
            url, token=token, ca_file=ca_file, client_cert=client_cert, client_key=client_key, verify_tls=verify_tls
        )
        self._timeout_s = timeout_s
        self._retries = retries
        self._session = Session(self._target)
        self._transport = open_transport(self._target, concurrency)

    def infer(
        self,
        model: str,
        *,
        version: int | str | None = None,
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
        inputs: Mapping[str, object] | None = None,
        **named: object,
    ) -> dict[str, Array]:
        """Run a model.

        Args:
            model: Its name.
            version: One of its versions, or, through the gateway, an alias such as `stable`; None for the one that
                unversioned calls go to.
            outputs: Names of the wanted outputs; None for all.
            timeout_s: Deadline for the whole call in seconds; None for the client's.
            inputs: Input name -> array, number, text or nested list; for names that cannot be keywords here.
            **named: The same as keywords, such as `image=array`.

            Inputs are all given as one sample, with the shape that `spec()` tells, or all as a batch with one axis
            more in front. What is converted is told in `modelport.client._tensors`: Python numbers and lists are,
            arrays must already have the model's element type or widen to it.

        Returns:
            Output name -> array. One sample gives outputs without the batch axis. Elements of BYTES outputs are `str`,
            or `bytes` where they are not UTF-8.

        Raises:
            RequestError: A name, type or shape does not fit the model (found before sending), or the server refused.
            ModelNotFoundError, VersionNotFoundError: The server has no such model or version.
            DeadlineError: There was no answer in time.
            UnreachableError: There is no connection, or it broke, in all tries.
            UnavailableError: It cannot answer now: overloaded, starting, or the model is being loaded anew.
            RemoteError: The server failed.
        """
        given = _options.all_inputs(inputs, named)
        return self._run(self._session.infer(model, version, given, outputs), timeout_s)

    def classify(
        self,
        model: str,
        classes: int = 5,
        *,
        output: str | None = None,
        version: int | str | None = None,
        timeout_s: float | None = None,
        inputs: Mapping[str, object] | None = None,
        **named: object,
    ) -> list[list[Ranked]]:
        """The highest values of an output with their labels, found by the server (Triton's classification extension).

        Args:
            model: Its name.
            classes: How many.
            output: Name of the output; None for the first.
            version: One of its versions, or, through the gateway, an alias such as `stable`; None for the one that
                unversioned calls go to.
            timeout_s: Deadline for the whole call in seconds; None for the client's.
            inputs: As in `infer`.
            **named: As in `infer`.

        Returns:
            One list per sample, highest score first; for a single sample a list with one list in it.

        Raises:
            ModelportError: As `infer`.
        """
        given = _options.all_inputs(inputs, named)
        return self._run(self._session.classify(model, version, given, output, classes), timeout_s)

    def spec(self, model: str, version: int | str | None = None, *, timeout_s: float | None = None) -> ModelSpec:
        """Ask the server which tensors a model takes and gives.

        The server does not tell the largest batch: `max_batch_size` is `BATCH_UNKNOWN` for a model with a batch axis.

        Raises:
            ModelportError: As `infer`.
        """
        return self._run(self._session.spec(model, version), timeout_s)

    def ready(
        self, model: str | None = None, version: int | str | None = None, *, timeout_s: float | None = None
    ) -> bool:
        """Whether the server, or a model, is ready to infer.

        False too when nothing answers by the deadline, or only that it cannot now; `spec()` and `infer()` raise the
        reason. Asked once, without retries.

        Raises:
            RequestError: The server refuses to say, such as for want of a key.
        """
        return self._run(self._session.ready(model, version), timeout_s)

    def close(self) -> None:
        """Close the connections. The client cannot be used afterwards; closing twice is fine."""
        self._transport.close()

    def _run(self, steps: Steps[T], timeout_s: float | None) -> T:
        """Carry the questions of `steps` to the server until they have their result."""
        deadline = _options.deadline_in(timeout_s, self._timeout_s)
        try:
            question = next(steps)
            while True:
                try:
                    answer = self._ask(question, deadline)
                except ModelportError as error:
                    question = steps.throw(error)
                else:
                    question = steps.send(answer)
        except StopIteration as end:
            return cast(T, end.value)

    def _ask(self, question: Call, deadline: Deadline) -> Answer:
        retries = _options.retries_of(question, self._retries, deadline)
        while True:
            try:
                return self._transport.call(question, deadline)
            except ClientError as error:
                wait_s = retries.wait_s(error)
                if wait_s is None:
                    raise
            time.sleep(wait_s)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._target.url!r})"
