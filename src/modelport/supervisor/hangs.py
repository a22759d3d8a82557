"""Does a version hang, or is it only slow? A hang is restored, and a busy model must not be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modelport.supervisor.answers import FAILED, Result

MISSED = 3  # deadlines in a row
UNHEALTHY = 2  # answers of Triton in a row that the process does not answer it
FAILING = 3  # failures in a row of a version that was good before
IDLE = 0.1  # CPU seconds for each second: less is no work
WORKING_S = 120.0  # so long a version may work on one request
_UNHEALTHY = "is not healthy"  # Triton's words for a stub that does not answer it


@dataclass(frozen=True, kw_only=True)
class _Base:
    """How things stood when the first deadline was missed."""

    at: float
    executions: int
    cpu_s: float


class Hangs:
    """Tells hanging versions from busy ones, by what they get done and by the CPU they use."""

    def __init__(self) -> None:
        self._bases: dict[tuple[str, int], _Base] = {}

    def forget(self, version: tuple[str, int]) -> None:
        """The version answers: the next missed deadline is the first again."""
        self._bases.pop(version, None)

    def verdict(
        self, version: tuple[str, int], result: Result, *, cpu_s: float, executions: Callable[[], int], now: float
    ) -> str:
        """Why a version is to be loaded anew; empty when it is not.

        Args:
            version: Model and version.
            result: Its latest golden request: one that failed or was late.
            cpu_s: CPU seconds that its processes have used so far.
            executions: Tells how many runs it has ended so far; asked only where that matters.
            now: The time on the supervisor's clock.
        """
        if result.kind == FAILED:
            self.forget(version)
            return self._failing(result)
        base = self._bases.get(version)
        if base is None:
            self._bases[version] = _Base(at=now, executions=executions(), cpu_s=cpu_s)
            return ""
        if result.in_a_row < MISSED:
            return ""
        if executions() > base.executions:
            self._bases[version] = _Base(at=now, executions=executions(), cpu_s=cpu_s)
            return ""
        late_s = now - base.at
        if cpu_s - base.cpu_s > IDLE * late_s and late_s < WORKING_S:
            return ""
        return f"it has answered nothing for {late_s:.0f} s and missed {result.in_a_row} deadlines"

    def _failing(self, result: Result) -> str:
        if _UNHEALTHY in result.reason and result.in_a_row >= UNHEALTHY:
            return "its process does not answer the server"
        if result.last_ok is not None and result.in_a_row >= FAILING:
            return f"it has failed {result.in_a_row} times in a row: {result.reason}"
        return ""
