"""How much an optimised model loses: the version's own metrics where the right answers are known, else agreement.

Agreement with the original is the share of rows with the same largest class. Where the first output holds no scores of
classes it is R2 with the original's answers for the truth; for whole numbers, the share of equal elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modelport.convert.types import Array, Arrays, Runner, rows, take
from modelport.errors import VerificationError
from modelport.evaluate import intervals
from modelport.evaluate.forms import flat
from modelport.evaluate.intervals import Interval
from modelport.evaluate.metrics import mean, prepare, score, worsening

AGREEMENT, R2, EQUAL = "top-1 agreement", "R2 against the original", "equal elements"
MAX_DROP, MAX_DISAGREEMENT = 0.01, 0.05
TINY = 1e-9  # what is computed may be off its limit by a rounding error
COARSE = "its numbers became too coarse for what it computes"


@dataclass(frozen=True, kw_only=True)
class Score:
    """One figure of both models.

    Attributes:
        metric: Its name.
        before: Of the original; 1 where it is the measure.
        after: Of the optimised one.
        samples: How many it was computed from.
    """

    metric: str
    before: float
    after: float
    samples: int

    @property
    def drop(self) -> float:
        """How much worse it is; below 0 where it is better."""
        return worsening(self.metric, self.before, self.after)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Scores a model against the original, on the same samples.

    Attributes:
        inputs: The samples.
        original: The original's answers to them.
        truth: What is right; None where nobody knows.
        metrics: Names of the metrics for `truth`.
        max_drop: How much lower the first score may be; None for `MAX_DROP` of a metric, `MAX_DISAGREEMENT` otherwise.
        min_agreement: The least agreement with the original, whatever the metric says; None for any.
        by_agreement: Whether agreement with the original decides, though metrics are known.
        batched: Whether the model takes rows; if not, it is asked for one sample after the other.
    """

    inputs: Arrays
    original: Arrays
    truth: Array | None = None
    metrics: tuple[str, ...] = ()
    max_drop: float | None = None
    min_agreement: float | None = None
    by_agreement: bool = False
    batched: bool = True

    @property
    def allowed(self) -> float:
        """How much lower the first score may be."""
        if self.max_drop is not None:
            return self.max_drop
        return MAX_DROP if self._by_metric else MAX_DISAGREEMENT

    def scores(self, runner: Runner) -> tuple[Score, ...]:
        """The scores of a model, the one that decides first."""
        return self.scored(self.answers(runner))

    def answers(self, runner: Runner) -> Arrays:
        """A model's answers to the samples, one by one."""
        return one_by_one(runner, self.inputs, batched=self.batched)

    def scored(self, got: Mapping[str, Array]) -> tuple[Score, ...]:
        """The scores of these answers, the one that decides first: a metric, or agreement with the original."""
        same, metrics = agreement(self.original, got, self.rows), self._metrics(got, self.rows)
        return (same, *metrics) if self.by_agreement else (*metrics, same)

    def interval(self, got: Mapping[str, Array]) -> Interval | None:
        """The drop of the first score, with the interval of the paired differences; None where there is none."""
        one, two = _first(self.original), _first(got)
        if self._by_metric and self.truth is not None:
            name = self.metrics[0]
            before, after = (prepare(name, answers, self.truth) for answers in (one, two))
        elif _classes(one):
            name = AGREEMENT
            before, after = mean(np.ones(len(one))), mean(one.argmax(axis=1) == two.argmax(axis=1))
        else:
            return None
        return intervals.paired(before, after, len(one), lambda was, now: worsening(name, was, now))

    def passes(self, scores: tuple[Score, ...]) -> bool:
        """Whether the drop is allowed, and the agreement enough."""
        enough = self.min_agreement is None or self._agreement(scores).after >= self.min_agreement - TINY
        return enough and scores[0].drop <= self.allowed + TINY

    def require(self, scores: tuple[Score, ...], *, model: str, fix: str, why: str = COARSE) -> None:
        """Refuse a model that lost too much.

        Raises:
            VerificationError: With the score, and what was allowed.
        """
        if self.passes(scores):
            return
        first, limit = scores[0], f"allowed is a drop of {self.allowed:.4g}"
        if first.drop <= self.allowed + TINY:
            first, limit = self._agreement(scores), f"at least {self.min_agreement} is needed"
        raise VerificationError(
            f"{model!r} would lose too much: {first.metric} falls from {first.before:.4g} to {first.after:.4g} "
            f"on {first.samples} samples, {limit}",
            why=why,
            fix=fix,
            model=model,
        )

    @property
    def rows(self) -> int:
        """How many samples there are."""
        return rows(self.inputs)

    @property
    def _by_metric(self) -> bool:
        return self.truth is not None and bool(self.metrics) and not self.by_agreement

    def _agreement(self, scores: tuple[Score, ...]) -> Score:
        return scores[0 if self.by_agreement else -1]

    def _metrics(self, got: Mapping[str, Array], count: int) -> list[Score]:
        if self.truth is None or not self.metrics:
            return []
        return [
            Score(
                metric=name,
                before=score(name, self.original, self.truth),
                after=score(name, got, self.truth),
                samples=count,
            )
            for name in self.metrics
        ]


def agreement(original: Mapping[str, Array], got: Mapping[str, Array], samples: int) -> Score:
    """How far the first outputs are the same."""
    want, have = _first(original), _first(got)
    if want.dtype.kind != "f":
        return Score(metric=EQUAL, before=1.0, after=float(np.mean(want == have)), samples=samples)
    if _classes(want):
        same = float(np.mean(want.argmax(axis=1) == have.argmax(axis=1)))
        return Score(metric=AGREEMENT, before=1.0, after=same, samples=samples)
    one, two = want.astype(np.float64), have.astype(np.float64)
    spread = float(np.sum((one - one.mean()) ** 2))
    left = float(np.sum((one - two) ** 2))
    return Score(metric=R2, before=1.0, after=1.0 - left / spread if spread else float(left == 0), samples=samples)


def one_by_one(runner: Runner, inputs: Arrays, *, batched: bool, size: int = 1) -> Arrays:
    """The answers to rows that come alone, or `size` together where there is a batch axis."""
    numbers, step = range(rows(inputs)), size if batched else 1
    asked = (request(inputs, numbers[start : start + step], batched=batched) for start in numbers[::step])
    parts = [in_rows(runner.run(one), batched=batched) for one in asked]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def request(samples: Arrays, index: Sequence[int], *, batched: bool) -> Arrays:
    """Samples as the model takes them: these rows, or the first of them alone where there is no batch axis."""
    chosen = take(samples, index)
    return chosen if batched else {name: array[0] for name, array in chosen.items()}


def in_rows(arrays: Mapping[str, Array], *, batched: bool) -> Arrays:
    """What the model takes or gives with rows in front; one row where there is no batch axis."""
    return {name: array if batched else array[None] for name, array in arrays.items()}


def _first(answers: Mapping[str, Array]) -> Array:
    return flat(next(iter(answers.values())))


def _classes(answer: Array) -> bool:
    """Whether these are scores of classes."""
    return answer.dtype.kind == "f" and answer.ndim == 2 and answer.shape[1] > 1
