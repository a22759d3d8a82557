"""What is wanted of a setting, as one figure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from modelport.bench.tuning.simulate import Predicted

THROUGHPUT, LATENCY = "throughput", "latency"
OBJECTIVES = (THROUGHPUT, LATENCY)
PERCENTS = (50, 90, 95, 99)


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What is wanted.

    Attributes:
        objective: `throughput` or `latency`.
        budget_us: The latency that is allowed; None for any.
        percent: Which latency: so many percent of the requests do not exceed it.
    """

    objective: str = THROUGHPUT
    budget_us: float | None = None
    percent: int = 99

    def value(self, seen: Mapping[int, Predicted]) -> float:
        """How good a setting is, by the number of clients: the geometric mean of its rates, or of 1 s over its
        latencies. Larger is better."""
        if self.objective == THROUGHPUT:
            return _mean([one.rate for one in seen.values()])
        return _mean([1e6 / one.latency_us[self.percent] for one in seen.values()])

    def keeps(self, seen: Mapping[int, Predicted]) -> bool:
        """Whether the latency is within the budget with each number of clients."""
        return self.budget_us is None or self.worst_us(seen) <= self.budget_us

    def worst_us(self, seen: Mapping[int, Predicted]) -> float:
        """The highest latency."""
        return max(one.latency_us[self.percent] for one in seen.values())

    def order(self, seen: Mapping[int, Predicted]) -> tuple[bool, float]:
        """To sort settings by: those within the budget by their value, before them the others by what they exceed."""
        kept = self.keeps(seen)
        return (kept, self.value(seen) if kept else -self.worst_us(seen))

    def words(self, clients: tuple[int, ...]) -> str:
        """In words."""
        at = f"at {', '.join(map(str, clients))} client{'s' if clients != (1,) else ''}"
        budget = "" if self.budget_us is None else f", p{self.percent} within {self.budget_us / 1000:g} ms"
        return f"{'throughput' if self.objective == THROUGHPUT else f'p{self.percent} latency'} {at}{budget}"


def _mean(values: list[float]) -> float:
    return math.exp(sum(math.log(max(value, 1e-9)) for value in values) / len(values))
