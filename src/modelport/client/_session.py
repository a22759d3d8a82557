"""What happens in a call, in order, without doing any of it.

Each function here is a generator: it yields what must be asked of the server (`_calls`), is sent the answer, and
returns the call's result. `sync.Client` and `aio.AsyncClient` only differ in how they carry the questions; the rules
about metadata, caching and checking stand here once, and can be tested without a server.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from modelport.client._calls import Answer, Call, Infer, Metadata, RawSpec, Ready, Tensor
from modelport.client._connection import Target
from modelport.client._errors import unreadable
from modelport.client._tensors import Array, Prepared, decode, misfit, prepare, spec_of, without_batch_axis
from modelport.errors import (
    DeadlineError,
    ModelNotFoundError,
    RequestError,
    UnavailableError,
    UnreachableError,
    UsageError,
    VersionNotFoundError,
)
from modelport.spec import TRIAL_SUFFIX, ModelSpec, check_model_name, parse_target

T = TypeVar("T")
Steps = Generator[Call, Any, T]


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One class of a classification.

    Attributes:
        score: The output's value for it.
        index: Its place in the output.
        label: Its name, or empty where the model has no labels.
    """

    score: float
    index: int
    label: str


class Session:
    """The steps of every call, and the metadata seen so far, per model and version.

    Args:
        target: The server, for messages.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._specs: dict[tuple[str, int | str | None], ModelSpec] = {}

    def ready(self, model: str | None, version: int | str | None) -> Steps[bool]:
        """Whether the server, or a model, answers and is ready."""
        if model is None and version is not None:
            raise UsageError(
                f"ready(version={version}) without a model", why="versions are a model's", fix="name the model too"
            )
        name = None if model is None else _served_name(model)
        try:
            return cast(bool, (yield Ready(model=name, version=_version(version))))
        except (UnreachableError, DeadlineError, UnavailableError):
            return False

    def spec(self, model: str, version: int | str | None) -> Steps[ModelSpec]:
        """Ask for a model's tensors, and remember them."""
        version = _version(version)
        answer: Answer = yield Metadata(model=_served_name(model), version=version)
        spec = spec_of(model, cast(RawSpec, answer))
        self._specs[model, version] = spec
        return spec

    def infer(
        self, model: str, version: int | str | None, given: Mapping[str, object], outputs: Sequence[str] | None
    ) -> Steps[dict[str, Array]]:
        """Check the inputs, send them, and decode what comes back."""
        version = _version(version)
        prepared = yield from self._prepare(model, version, given, outputs)
        return (yield from self._ask(model, version, prepared, classes=0))

    def classify(
        self, model: str, version: int | str | None, given: Mapping[str, object], output: str | None, classes: int
    ) -> Steps[list[list[Ranked]]]:
        """The same with the classification extension, for one output."""
        if classes < 1:
            raise UsageError(f"classes={classes} cannot be", why="it is how many are wanted", fix="give 1 or more")
        version = _version(version)
        if output is None:
            spec = self._specs.get((model, version)) or (yield from self.spec(model, version))
            output = spec.outputs[0].name
        prepared = yield from self._prepare(model, version, given, (output,))
        array = (yield from self._ask(model, version, prepared, classes=classes))[output]
        rows = array.reshape(len(array), -1) if prepared.batch else array.reshape(1, -1)
        try:
            return [[_ranked(str(text)) for text in row] for row in rows]
        except ValueError as error:
            raise unreadable(self._target, Ready(model=model, version=version), error) from error

    def _prepare(
        self, model: str, version: int | str | None, given: Mapping[str, object], outputs: Sequence[str] | None
    ) -> Steps[Prepared]:
        cached = self._specs.get((model, version))
        spec = cached or (yield from self.spec(model, version))
        try:
            return prepare(spec, given, outputs)
        except RequestError:
            if cached is None:
                raise
            # A version with other tensors may have gone live since.
            return prepare((yield from self.spec(model, version)), given, outputs)

    def _ask(
        self, model: str, version: int | str | None, prepared: Prepared, *, classes: int
    ) -> Steps[dict[str, Array]]:
        question = Infer(
            model=model,
            version=version,
            inputs=prepared.inputs,
            outputs=prepared.outputs,
            classes=classes,
        )
        try:
            answer = cast("Mapping[str, Tensor]", (yield question))
        except (RequestError, ModelNotFoundError, VersionNotFoundError) as error:
            if not (
                isinstance(error, RequestError) and error.status != 400
            ):  # a missing key says nothing about tensors
                self._specs.pop((model, version), None)
            raise
        if not classes:
            yield from self._check(question, answer)
        try:
            arrays = {name: decode(answer[name]) for name in prepared.outputs or answer}
            if prepared.single:
                arrays = {name: without_batch_axis(array) for name, array in arrays.items()}
        except (ValueError, KeyError) as error:
            raise unreadable(self._target, question, error) from error
        return arrays

    def _check(self, question: Infer, answer: Mapping[str, Tensor]) -> Steps[None]:
        """Triton does not look at what a model in Python gives: other tensors than the model's are no answer."""
        cached = self._specs.get((question.model, question.version))
        if cached is not None and not misfit(cached, answer, question.outputs):
            return
        spec = yield from self.spec(question.model, question.version)
        problem = misfit(spec, answer, question.outputs)
        if problem:
            raise unreadable(self._target, question, problem)


def _served_name(name: str) -> str:
    """A name that a server may know: a model's, or that of a version on trial."""
    check_model_name(name.removesuffix(TRIAL_SUFFIX))
    return name


def _version(version: int | str | None) -> int | str | None:
    return None if version is None else parse_target(version)


def _ranked(text: str) -> Ranked:
    """Read `score:index` or `score:index:label`.

    Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md
    """
    score, index, label = [*text.split(":", 2), ""][:3]
    return Ranked(score=float(score), index=int(index), label=label)
