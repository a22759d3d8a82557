"""What a canary and the stable version did since a step began, from counts that only grow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelport.gateway.routes.evidence import Tally

WINDOW = 5  # answers of each version, before their times are compared


@dataclass(frozen=True, kw_only=True)
class Did:
    """What a version did.

    Attributes:
        answered: Requests that were answered.
        answered_us: Microseconds that these took in the server, all together.
        failed: Requests that failed.
    """

    answered: int
    answered_us: int
    failed: int


NOTHING = Did(answered=0, answered_us=0, failed=0)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What both versions did until one moment.

    Attributes:
        canary: The canary.
        stable: Stable.
        broken: Why the canary cannot go on, whatever the figures are; or empty.
        changed: What somebody else did meanwhile, so that this rollout is not to touch anything; or empty.
    """

    canary: Did = NOTHING
    stable: Did = NOTHING
    broken: str = ""
    changed: str = ""


class Watch:
    """Adds up what happens in a step.

    Args:
        first: The counts when it began.
    """

    def __init__(self, first: Counts) -> None:
        self._last = first
        self._canary = self._stable = NOTHING
        self._window = (NOTHING, NOTHING)
        self._ratios: list[float] = []

    def add(self, now: Counts) -> None:
        """Take in the counts of a later moment. Windows with too few answers become one with the next."""
        canary, stable = _since(self._last.canary, now.canary), _since(self._last.stable, now.stable)
        self._last = now
        self._canary, self._stable = _sum(self._canary, canary), _sum(self._stable, stable)
        one, other = self._window = _sum(self._window[0], canary), _sum(self._window[1], stable)
        if min(one.answered, other.answered) >= WINDOW and other.answered_us > 0:
            self._ratios.append((one.answered_us / one.answered) / (other.answered_us / other.answered))
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


def _since(before: Did, now: Did) -> Did:
    """What happened between two moments."""
    return Did(
        answered=now.answered - before.answered,
        answered_us=now.answered_us - before.answered_us,
        failed=now.failed - before.failed,
    )


def _sum(one: Did, other: Did) -> Did:
    return Did(
        answered=one.answered + other.answered,
        answered_us=one.answered_us + other.answered_us,
        failed=one.failed + other.failed,
    )


def _tally(did: Did) -> Tally:
    return Tally(requests=did.answered + did.failed, failed=did.failed)
