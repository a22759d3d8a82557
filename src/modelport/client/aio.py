"""`AsyncClient`: asks a Triton server for inference, over HTTP or gRPC, within an asyncio event loop."""

from __future__ import annotations

import asyncio
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
from modelport.client._transports import open_async_transport
from modelport.errors import ClientError, ModelportError
from modelport.spec import ModelSpec

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio: the same options, methods, rules and errors, awaited.

        async with AsyncClient("http://127.0.0.1:8000") as client:
            answers = await asyncio.gather(*(client.infer("digits_cnn", image=image) for image in images))

    One client belongs to one event loop; any number of its tasks may use it at once. A task that is cancelled drops its
    HTTP connection; over gRPC its call is abandoned, as one that is late is.

    Args:
        url: As for `Client`.
        timeout_s: As for `Client`.
        retries: As for `Client`.
        token: As for `Client`.
        ca_file: As for `Client`.
        client_cert: As for `Client`.
        client_key: As for `Client`.
        verify_tls: As for `Client`.
        concurrency: Most calls on the way at once; further tasks wait for a place, within their deadlines.

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
        self._transport = open_async_transport(self._target, concurrency)

    async def infer(
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
        return await self._run(self._session.infer(model, version, given, outputs), timeout_s)

    async def classify(
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
        return await self._run(self._session.classify(model, version, given, output, classes), timeout_s)

    async def spec(self, model: str, version: int | str | None = None, *, timeout_s: float | None = None) -> ModelSpec:
        """Ask the server which tensors a model takes and gives.

        The server does not tell the largest batch: `max_batch_size` is `BATCH_UNKNOWN` for a model with a batch axis.

        Raises:
            ModelportError: As `infer`.
        """
        return await self._run(self._session.spec(model, version), timeout_s)

    async def ready(
        self, model: str | None = None, version: int | str | None = None, *, timeout_s: float | None = None
    ) -> bool:
        """Whether the server, or a model, is ready to infer.

        False too when nothing answers by the deadline, or only that it cannot now; `spec()` and `infer()` raise the
        reason. Asked once, without retries.

        Raises:
            RequestError: The server refuses to say, such as for want of a key.
        """
        return await self._run(self._session.ready(model, version), timeout_s)

    async def close(self) -> None:
        """Close the connections. The client cannot be used afterwards; closing twice is fine."""
        await self._transport.close()

    async def _run(self, steps: Steps[T], timeout_s: float | None) -> T:
        """Carry the questions of `steps` to the server until they have their result."""
        deadline = _options.deadline_in(timeout_s, self._timeout_s)
        try:
            question = next(steps)
            while True:
                try:
                    answer = await self._ask(question, deadline)
                except ModelportError as error:
                    question = steps.throw(error)
                else:
                    question = steps.send(answer)
        except StopIteration as end:
            return cast(T, end.value)

    async def _ask(self, question: Call, deadline: Deadline) -> Answer:
        retries = _options.retries_of(question, self._retries, deadline)
        while True:
            try:
                return await self._transport.call(question, deadline)
            except ClientError as error:
                wait_s = retries.wait_s(error)
                if wait_s is None:
                    raise
            await asyncio.sleep(wait_s)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self._target.url!r})"
