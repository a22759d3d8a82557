"""How sure a score is: the percentile bootstrap over the rows (B. Efron, The Annals of Statistics 7, 1979).

Two versions are compared on the same rows, resampled together: what both get wrong alike does not count as doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from modelport.evaluate.forms import Array
from modelport.evaluate.metrics import Scorer

RESAMPLES = 1000
PERCENT = 95.0


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A measured value, and where the true one is with 95 % confidence.

    Attributes:
        value: On all rows.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def interval(scorer: Scorer, rows: int, *, resamples: int = RESAMPLES) -> Interval:
    """A metric with its interval."""
    return _interval(scorer, rows, resamples)


def paired(
    before: Scorer, after: Scorer, rows: int, worse: Callable[[float, float], float], *, resamples: int = RESAMPLES
) -> Interval:
    """By how much a metric became worse, both taken on the same rows.

    Args:
        before: The metric of the version that serves.
        after: Of the other one.
        rows: How many rows there are.
        worse: From both values to the drop.
        resamples: How often the rows are drawn.
    """
    return _interval(lambda weights: worse(before(weights), after(weights)), rows, resamples)


def _interval(scorer: Scorer, rows: int, resamples: int) -> Interval:
    value = scorer(np.ones(rows))
    drawn = np.array([scorer(weights) for weights in _draws(rows, resamples)])
    drawn = drawn[np.isfinite(drawn)]  # a draw may hold one class only
    if not len(drawn):
        return Interval(value=value, low=value, high=value)
    tail = (100 - PERCENT) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return Interval(value=value, low=float(low), high=float(high))


def _draws(rows: int, resamples: int) -> Iterator[Array]:
    """How often each row was drawn, in each resample; the same draws at each call."""
    random = np.random.default_rng(0)
    for _ in range(resamples):
        yield np.bincount(random.integers(0, rows, rows), minlength=rows).astype(np.float64)
