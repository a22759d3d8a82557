"""What a canary and the stable version did since a step began, from counters that only grow, or begin anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelport.gateway.routes.evidence import Tally
from modelport.server.counters import Counters

WINDOW = 5  # answers of each version, before their times are compared
NOTHING = Counters(answered=0, answered_ns=0, failed=0, rows=0, runs=0)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The counters of both versions at one moment.

    Attributes:
        canary: The canary's.
        stable: Stable's.
        broken: Why the canary cannot go on, whatever the figures are; or empty.
        changed: What somebody else did meanwhile, so that this rollout is not to touch anything; or empty.
    """

    canary: Counters = NOTHING
    stable: Counters = NOTHING
    broken: str = ""
    changed: str = ""


class Watch:
    """Adds up what happens in a step.

    Args:
        first: The counters when it began.
    """

    def __init__(self, first: Counts) -> None:
        self._last = first
        self._canary = self._stable = NOTHING
        self._window = (NOTHING, NOTHING)
        self._ratios: list[float] = []

    def add(self, now: Counts) -> None:
        """Take in the counters of a later moment. Windows with too few answers become one with the next."""
        canary, stable = _since(self._last.canary, now.canary), _since(self._last.stable, now.stable)
        self._last = now
        self._canary, self._stable = _sum(self._canary, canary), _sum(self._stable, stable)
        one, other = self._window = _sum(self._window[0], canary), _sum(self._window[1], stable)
        if min(one.answered, other.answered) >= WINDOW and other.answered_ns > 0:
            self._ratios.append((one.answered_ns / one.answered) / (other.answered_ns / other.answered))
            self._window = (NOTHING, NOTHING)

    @property
    def canary(self) -> Tally:
        """The canary's requests."""
        return _tally(self._canary)

    @property
    def stable(self) -> Tally:
        """Stable's requests."""
        return _tally(self._stable)

    @property
    def ratios(self) -> Sequence[float]:
        """The canary's mean time over stable's, one for each window."""
        return tuple(self._ratios)


def _since(before: Counters, now: Counters) -> Counters:
    """What happened between two moments; a version that was loaded anew meanwhile has done all it did since."""
    if now.answered < before.answered or now.failed < before.failed or now.answered_ns < before.answered_ns:
        before = NOTHING
    return Counters(
        answered=now.answered - before.answered,
        answered_ns=now.answered_ns - before.answered_ns,
        failed=now.failed - before.failed,
        rows=0,
        runs=0,
    )


def _sum(one: Counters, other: Counters) -> Counters:
    return Counters(
        answered=one.answered + other.answered,
        answered_ns=one.answered_ns + other.answered_ns,
        failed=one.failed + other.failed,
        rows=0,
        runs=0,
    )


def _tally(counters: Counters) -> Tally:
    return Tally(requests=counters.answered + counters.failed, failed=counters.failed)
