"""What the two Python-based backends share when they answer: batching, errors, log lines.

It runs in Triton's Python stub as a plain module beside a backend's `model.py`. A backend refuses what it cannot serve
with `refuse`, and answers every `execute` call with an `Answerer`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
import triton_python_backend_utils as pb_utils
from modelport_config import Config, ConfigError
from modelport_line import Line

Feed = dict[str, Any]  # input name -> tensor, as the backend's `Tensors` makes it
Run = Callable[[Feed, Sequence[str]], dict[str, Any]]  # (feed, wanted outputs) -> output name -> tensor

_PATHS = re.compile(r"(?<![\w.])/[\w.+@-]+(?:/[\w.+@-]+)+(?::\d+)?:?")
_SYMBOLS = re.compile(r"\b(?:onnxruntime|c10|at|torch)::[\w:<>~&*, ]+\([^)]*\)\s*")


class InputError(Exception):
    """The request is wrong in a way that only the backend sees; the caller gets 400."""


def plain(error: BaseException) -> str:
    """One line about an error, without tracebacks, file paths and C++ signatures: callers may see it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = lines[-1] if any(line.startswith("Traceback") for line in lines) else lines[0]
    return " ".join(_PATHS.sub("", _SYMBOLS.sub("", line)).split()).removeprefix("builtins.")[:500]


def log(text: str) -> None:
    """Write a line to the server's log (when loading; never per request)."""
    pb_utils.Logger.log_info(text)


def warn(text: str) -> None:
    """Write a warning to the server's log (when loading; never per request)."""
    pb_utils.Logger.log_warn(text)


def refuse(error: Exception) -> Exception:
    """The exception with which `initialize` refuses a model; its text is what the load call returns."""
    return pb_utils.TritonModelException(str(error) if isinstance(error, ConfigError) else plain(error))  # type: ignore[no-any-return]


def decode(name: str, array: Any) -> list[str]:
    """The texts of a BYTES tensor, in C order."""
    try:
        return [item.decode() if isinstance(item, bytes) else str(item) for item in array.ravel()]
    except UnicodeDecodeError as exc:
        raise InputError(f"input '{name}' holds text that is not UTF-8") from exc


class Tensors(Protocol):
    """How a backend takes tensors from Triton and gives them back. What it makes of one has a `shape`."""

    def read(self, tensor: Any) -> Any:
        """An input of a request."""

    def join(self, parts: Sequence[Any]) -> Any:
        """The rows of several in one."""

    def split(self, whole: Any, rows: Sequence[int]) -> Sequence[Any]:
        """One that holds so many rows for each request, divided among them."""

    def write(self, name: str, value: Any) -> Any:
        """An output of a response."""


class Arrays:
    """Tensors as numpy arrays in the processor's memory."""

    def read(self, tensor: Any) -> Any:
        """A view, which lives as long as the tensor."""
        return tensor.as_numpy()

    def join(self, parts: Sequence[Any]) -> Any:
        """A copy."""
        return np.concatenate(parts)

    def split(self, whole: Any, rows: Sequence[int]) -> Sequence[Any]:
        """Views."""
        ends = list(accumulate(rows))
        return [whole[end - count : end] for end, count in zip(ends, rows, strict=True)]

    def write(self, name: str, value: Any) -> Any:
        """A copy where the array's memory has gaps."""
        return pb_utils.Tensor(name, value)


class Answerer:
    """Answers the requests of one `execute` call with as few runs of the model as possible.

    Requests of equal sample shapes are joined along the batch axis; a single one is not copied. When a joined run
    fails, each request runs alone, so that only the one that makes the model fail gets the error. When the line of
    those that wait is too long, the requests are refused unrun.

    Args:
        config: The model's configuration.
        run: Runs the model on one batch. It gets the wanted output names and returns at least those.
        tensors: How tensors come and go.
    """

    def __init__(self, config: Config, run: Run, tensors: Tensors | None = None) -> None:
        self._config = config
        self._tensors = Arrays() if tensors is None else tensors
        self._run = run
        self._outputs = {io.name: io for io in config.outputs}
        self._names = list(self._outputs)
        self._line = Line(config)

    def __call__(self, requests: Sequence[Any]) -> list[Any]:
        """One response per request, in their order."""
        if self._line.refuses(len(requests)):
            return [_overloaded(self._config.name) for _ in requests]
        began = time.monotonic()
        responses = self._answers(requests)
        self._line.answered(len(requests), began)
        return responses

    def _answers(self, requests: Sequence[Any]) -> list[Any]:
        read = self._tensors.read
        feeds = [{tensor.name(): read(tensor) for tensor in request.inputs()} for request in requests]
        if len(requests) == 1:
            return [self._alone(requests[0], feeds[0])]
        responses: list[Any] = [None] * len(requests)
        for group in self._groups(feeds):
            if len(group) == 1:
                responses[group[0]] = self._alone(requests[group[0]], feeds[group[0]])
            else:
                answers = self._together([requests[i] for i in group], [feeds[i] for i in group])
                for i, answer in zip(group, answers, strict=True):
                    responses[i] = answer
        return responses

    def _groups(self, feeds: Sequence[Feed]) -> list[list[int]]:
        """Numbers of the requests that can share a run."""
        if not self._config.batched:
            return [[i] for i in range(len(feeds))]
        groups: dict[Any, list[int]] = {}
        for i, feed in enumerate(feeds):
            groups.setdefault(tuple((name, array.shape[1:]) for name, array in feed.items()), []).append(i)
        return list(groups.values())

    def _wanted(self, request: Any) -> list[str]:
        if len(self._names) == 1:
            return self._names
        names = request.requested_output_names()
        return self._names if len(names) == len(self._names) else [name for name in self._names if name in names]

    def _alone(self, request: Any, feed: Feed) -> Any:
        try:
            wanted = self._wanted(request)
            answers = self._run(feed, wanted)
            self._check(answers, wanted, self._rows(feed))
            return pb_utils.InferenceResponse([self._tensors.write(name, answers[name]) for name in wanted])
        except Exception as exc:  # whatever the model raised is this request's answer
            return _failure(self._config.name, exc)

    def _together(self, requests: Sequence[Any], feeds: Sequence[Feed]) -> list[Any]:
        rows = [self._rows(feed) for feed in feeds]
        try:
            feed = {name: self._tensors.join([feed[name] for feed in feeds]) for name in feeds[0]}
            answers = self._run(feed, self._names)
            self._check(answers, self._names, sum(rows))
            pieces = {name: self._tensors.split(answers[name], rows) for name in self._names}
        except Exception:  # which request it was shows when each runs alone
            return [self._alone(request, feed) for request, feed in zip(requests, feeds, strict=True)]
        write = self._tensors.write
        return [
            pb_utils.InferenceResponse([write(name, pieces[name][i]) for name in self._wanted(request)])
            for i, request in enumerate(requests)
        ]

    def _rows(self, feed: Feed) -> int:
        for array in feed.values():
            return int(array.shape[0]) if self._config.batched else 0
        return 0

    def _check(self, answers: Mapping[str, Any], wanted: Sequence[str], rows: int) -> None:
        for name in wanted:
            output, shape = self._outputs[name], answers[name].shape
            if not output.fits(shape) or (output.batched and shape[0] != rows):
                expected = list((rows, *output.dims) if output.batched else output.dims)
                raise ValueError(f"output '{name}' has shape {list(shape)}, expected {expected}")


def _overloaded(model: str) -> Any:
    """A response of its own for each request: Triton crashes when two share one error."""
    text = f"model '{model}' is overloaded: more requests wait than it answers in time"
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, pb_utils.TritonError.UNAVAILABLE))


def _failure(model: str, error: Exception) -> Any:
    if isinstance(error, InputError):
        refusal = pb_utils.TritonError(f"{error} for model '{model}'", pb_utils.TritonError.INVALID_ARG)
        return pb_utils.InferenceResponse(error=refusal)
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"model '{model}' failed: {plain(error)}"))
