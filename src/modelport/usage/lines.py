"""What one line of the access log counts for."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from modelport.errors import ModelportError
from modelport.gateway import access_log
from modelport.gateway.access_log import LARGEST, Line
from modelport.repository.layout import version_numbers
from modelport.repository.versions import serving_version
from modelport.usage.answers import Answers, Said, Times

ANSWERED, REFUSED, LIMITED, FAILED, UNANSWERED = "answered", "refused", "limited", "failed", "unanswered"
NO_FLAG = ("", "-")
INFER = "infer"
_ABOUT = attrgetter("tenant", "model", "version", "kind", "passed", "status", "grpc_status", "flags")
_HOUR = len("2026-03-04T05")
_GRPC = {1: UNANSWERED, 8: LIMITED, **dict.fromkeys((3, 5, 6, 7, 9, 11, 12, 16), REFUSED)}


class Key(NamedTuple):
    """Who asked what, and when.

    Attributes:
        hour: Such as `2026-03-04T05`, in UTC.
        tenant: Empty for callers without a valid key.
        model: Empty where the request was refused before a model was asked.
        version: 0 where none was.
    """

    hour: str
    tenant: str
    model: str
    version: int


@dataclass
class Counts:
    """What was used.

    Attributes:
        answered: Inference requests that were answered: 2xx, and 0 over gRPC.
        inferences: Their rows.
        received_bytes: Their bodies.
        sent_bytes: The bodies of their answers.
        compute_ns: What the model's instances worked on them, in nanoseconds.
        refused: Requests with something wrong: 4xx, without the next.
        limited: Requests beyond a rate, a quota or a concurrency: 429.
        failed: Requests that the server could not answer: 5xx.
        unanswered: Requests whose caller, or whose answer, was gone before the end.
    """

    answered: int = 0
    inferences: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    compute_ns: int = 0
    refused: int = 0
    limited: int = 0
    failed: int = 0
    unanswered: int = 0


@dataclass
class Versions:
    """Which versions there are. Asked once for each model, and forgotten with this object.

    Attributes:
        repository: The model repository.
    """

    repository: Path
    _there: dict[str, Sequence[int]] = field(default_factory=dict)
    _serving: dict[str, int] = field(default_factory=dict)

    def of(self, model: str, named: str, *, answered: bool) -> int:
        """The version that a request went to; 0 where that is not known.

        Args:
            model: Model name.
            named: What the log says; empty where Triton chose: then it is the one that serves now.
            answered: Whether it was answered: so there was such a version.
        """
        if not named:
            return self._serving_one(model)
        number = int(named) if named.isdecimal() else 0
        return number if answered or number in self._all(model) else 0

    def _serving_one(self, model: str) -> int:
        if model not in self._serving:
            self._serving[model] = 0
            with contextlib.suppress(ModelportError):  # the model was removed since
                self._serving[model] = serving_version(self.repository, model) or 0
        return self._serving[model]

    def _all(self, model: str) -> Sequence[int]:
        if model not in self._there:
            self._there[model] = ()
            with contextlib.suppress(ModelportError):
                self._there[model] = version_numbers(self.repository, model)
        return self._there[model]


@dataclass
class Counted:
    """What lines count for.

    Attributes:
        used: For bills.
        answers: For Prometheus: what was answered to the same requests, of callers with a valid key.
        times: By tenant and model: how long it took.
        damaged: Lines that could not be read.
    """

    used: dict[Key, Counts] = field(default_factory=dict)
    answers: dict[Said, Answers] = field(default_factory=dict)
    times: dict[tuple[str, str], Times] = field(default_factory=dict)
    damaged: int = 0


class _Place(NamedTuple):
    """Where a line counts; None where it does not."""

    used: Counts | None
    what: str
    answers: Answers | None
    times: Times | None


def count(lines: bytes, versions: Versions) -> Counted:
    """Count lines of the access log.

    Args:
        lines: Whole lines.
        versions: What versions there are.
    """
    counted = Counted()
    alike: dict[tuple[Any, ...], _Place] = {}  # what lines count for that differ in figures only
    for found in access_log.requests(lines):
        if found is None:
            counted.damaged += 1
            continue
        about = (*_ABOUT(found), found.time[:_HOUR])
        try:
            rows, took_us = _number(found.inferences or "1"), _number(found.us) if found.us else None
            if about not in alike:
                alike[about] = _place(counted, found, versions)
            _add(alike[about], found, rows, took_us)
        except ValueError:  # letters in place of a number
            counted.damaged += 1
    return counted


def _add(place: _Place, found: Line, rows: int, took_us: int | None) -> None:
    received, sent = found.received_bytes, found.sent_bytes
    used, what, answers, times = place
    if used is not None:
        setattr(used, what, getattr(used, what) + 1)
        if what == ANSWERED:
            used.inferences += rows
            used.received_bytes += received
            used.sent_bytes += sent
    if answers is not None:
        answers.requests += 1
        answers.received_bytes += received
        answers.sent_bytes += sent
        if times is not None:
            answers.inferences += rows
            if took_us is not None:  # it was answered to its end
                times.add(took_us)


def _number(text: str) -> int:
    """A number, as large as such numbers are: one that a database does not take would hold up all others."""
    number = int(text)
    if not 0 <= number < LARGEST:
        raise ValueError(text)
    return number


def _place(counted: Counted, found: Line, versions: Versions) -> _Place:
    what, hour, tenant = outcome(found), found.time[:_HOUR], found.tenant
    if found.kind not in (INFER, ""):  # who polls readiness would thin out the part that fails
        return _Place(None, what, None, None)
    model = found.model if found.passed else ""  # one that is refused costs nothing, whatever it asked for
    version = versions.of(model, found.version, answered=what == ANSWERED) if model else 0
    used = counted.used.setdefault(Key(hour, tenant, model, version), Counts())
    answers = times = None
    if tenant:
        said = Said(tenant, found.model, str(found.status), found.grpc_status)
        answers = counted.answers.setdefault(said, Answers())
        answers.seen = max(answers.seen, hour)
        if found.passed:
            times = counted.times.setdefault((tenant, said.model), Times())
    return _Place(used, what, answers, times)


def outcome(found: Line) -> str:
    """What became of a request: the name of the field of `Counts` that it belongs to.

    Args:
        found: A line of the access log.
    """
    status, grpc = found.status, found.grpc_status
    if status == 0:
        return UNANSWERED
    if 200 <= status < 300:
        if not grpc or int(grpc) == 0:
            return ANSWERED if found.flags in NO_FLAG else UNANSWERED
        return _GRPC.get(int(grpc), FAILED)
    if status == 429:
        return LIMITED
    return REFUSED if status < 500 else FAILED
