"""What a version must be worth before it may serve: a part of the model's record, enforced by `promote`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A rule for one metric, on the model's evaluation data.

    Attributes:
        metric: Its name.
        min: The least value; None for any.
        max: The greatest value, for metrics of which less is better; None for any.
        max_drop: By how much it may be worse than that of the version that serves, on the same rows; None for any.
        sure: Whether the whole 95 % interval has to keep these limits, not only what was measured.
    """

    metric: str
    min: float | None = None
    max: float | None = None
    max_drop: float | None = None
    sure: bool = False

    def words(self) -> str:
        """The rule for people."""
        limits = [f"{self.metric} >= {self.min:g}"] if self.min is not None else []
        limits += [f"{self.metric} <= {self.max:g}"] if self.max is not None else []
        limits += [f"{self.metric} drop <= {self.max_drop:g}"] if self.max_drop is not None else []
        return ", ".join(limits) + (" (the whole interval)" if self.sure else "")


def parse(content: Any) -> tuple[Gate, ...]:
    """The gates in a model's record.

    Raises:
        ValueError, TypeError: They are damaged.
    """
    found = tuple(Gate(**one) for one in content)
    for gate in found:
        limits = [limit for limit in (gate.min, gate.max, gate.max_drop) if limit is not None]
        if not limits or not all(math.isfinite(limit) for limit in limits) or not isinstance(gate.metric, str):
            raise ValueError(f"{gate} is no gate")
    return found


def content(gates: tuple[Gate, ...]) -> list[dict[str, Any]]:
    """As they are kept: what is not said is left out."""
    return [
        {name: value for name, value in vars(gate).items() if value is not None and value is not False}
        for gate in gates
    ]
