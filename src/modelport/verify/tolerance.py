"""How far an answer may be from the source's: derived from the model itself.

The source is run in its own precision and in float64. Their difference is the noise that the arithmetic alone
makes: the noise floor. Another runtime orders its sums differently and makes noise of its own, so the allowed
error is `MULTIPLE` times the noise floor, and at least `MULTIPLE` units in the last place of the largest answer.
Where the source does not run in float64, a fixed tolerance is used, and the evidence says so. An optimised model is
further away than that on purpose: its tolerance is measured (`modelport.optimise.prove`), and carries its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from modelport.convert.types import Array

MULTIPLE = 16
FALLBACK_RELATIVE = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-9}

Kind = Literal["noise_floor", "fixed", "exact", "measured"]


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """The allowed error of one output.

    Attributes:
        kind: `noise_floor` (derived), `fixed` (the fallback), `exact` (whole numbers, strings, bools), or `measured`
            (of an optimised model).
        max_abs: Largest allowed absolute difference; 0 for exact.
        noise_floor: Largest absolute difference between the source in its own precision and in float64.
        largest: Largest absolute value of the source's answers.
        mismatches: For exact outputs, the share of elements in which the source disagrees with itself in
            float64: so many may differ (near ties of a top-k), no more.
        reason: How it came about, where the kind does not say it all; empty otherwise.
    """

    kind: Kind
    max_abs: float
    noise_floor: float = 0.0
    largest: float = 0.0
    mismatches: float = 0.0
    reason: str = ""

    @property
    def how(self) -> str:
        """The derivation in words."""
        if self.reason:
            return self.reason
        if self.kind == "noise_floor":
            last_place = "one unit in the last place of the largest answer"
            return f"{MULTIPLE} x max(noise floor {self.noise_floor:.3g}, {last_place})"
        if self.kind == "fixed":
            return "fixed share of the largest answer: the source gives no numbers in float64"
        return "every element equal" if not self.mismatches else f"up to {self.mismatches:.2%} of the elements differ"


def derive(own: Mapping[str, Array], double: Mapping[str, Array] | None) -> dict[str, Tolerance]:
    """Tolerances for every output.

    Args:
        own: The source's answers in its own precision.
        double: The same computed in float64, or None.
    """
    return {name: _one(answer, None if double is None else double.get(name)) for name, answer in own.items()}


def _one(own: Array, double: Array | None) -> Tolerance:
    if own.dtype.kind != "f":
        share = 0.0 if double is None or own.size == 0 else float(np.mean(own != double))
        return Tolerance(kind="exact", max_abs=0.0, mismatches=share)
    finite = np.isfinite(own)
    largest = float(np.abs(own[finite].astype(np.float64)).max(initial=0.0))
    if double is None or not np.isfinite(double[finite]).all():
        share = FALLBACK_RELATIVE[own.dtype.name]
        return Tolerance(kind="fixed", max_abs=share * max(largest, 1e-3), largest=largest)
    noise = float(np.abs(own[finite].astype(np.float64) - double[finite].astype(np.float64)).max(initial=0.0))
    last_place = float(np.finfo(own.dtype.name).eps) * largest
    return Tolerance(kind="noise_floor", max_abs=MULTIPLE * max(noise, last_place), noise_floor=noise, largest=largest)
