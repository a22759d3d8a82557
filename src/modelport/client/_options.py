"""The options that both clients share, checked once."""

from __future__ import annotations

import math
from collections.abc import Mapping

from modelport.client._calls import Call, Ready
from modelport.client._policy import Deadline, Retries
from modelport.errors import UsageError


def check_options(*, timeout_s: float, retries: int, concurrency: int) -> None:
    """Raise what is wrong with them, all together.

    Raises:
        UsageError: A number is outside of its range.
    """
    problems = [] if _is_time(timeout_s) else [f"timeout_s={timeout_s!r} is not a number of seconds above 0"]
    problems += [] if retries >= 0 else [f"retries={retries!r} is negative"]
    problems += [] if concurrency >= 1 else [f"concurrency={concurrency!r} lets nothing through"]
    if problems:
        raise UsageError("these options of the client cannot be", why="; ".join(problems), fix="correct them")


def deadline_in(timeout_s: float | None, default_s: float) -> Deadline:
    """The deadline of a call that starts now.

    Raises:
        UsageError: It is not a number of seconds above 0.
    """
    if timeout_s is None:
        return Deadline(default_s)
    if not _is_time(timeout_s):
        raise UsageError(f"timeout_s={timeout_s!r} cannot be", why="it must be above 0 seconds", fix="give 10, say")
    return Deadline(timeout_s)


def retries_of(call: Call, retries: int, deadline: Deadline) -> Retries:
    """The retries of one question. Readiness is asked once."""
    return Retries(0 if isinstance(call, Ready) else retries, deadline)


def all_inputs(inputs: Mapping[str, object] | None, named: Mapping[str, object]) -> dict[str, object]:
    """Inputs given as a mapping and as keywords, together.

    Raises:
        UsageError: One was given in both ways.
    """
    twice = sorted(set(inputs or {}) & set(named))
    if twice:
        raise UsageError(f"input {twice[0]!r} was given twice", why="in inputs= and as a keyword", fix="give it once")
    return {**(inputs or {}), **named}


def _is_time(seconds: float) -> bool:
    return isinstance(seconds, int | float) and math.isfinite(seconds) and seconds > 0
