"""Whether a version may serve by its model's gates: its answers to the evaluation data, beside the serving one's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelport.evaluate import intervals, metrics
from modelport.evaluate.forms import Array
from modelport.evaluate.intervals import Interval
from modelport.repository.gate import Gate


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a gate says of a version.

    Attributes:
        gate: The rule.
        value: The version's metric.
        before: The serving version's, on the same rows; None where none serves.
        drop: By how much it is worse, with the interval of the paired differences; None where none serves.
        problems: The limits that it does not keep, in words; empty where it passes.
    """

    gate: Gate
    value: Interval
    before: float | None
    drop: Interval | None
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the version may serve."""
        return not self.problems

    def words(self) -> str:
        """One line for people."""
        drop = f"; drop {self.drop}, from {self.before:.4g}" if self.drop is not None else ""
        return f"{self.gate.metric} {self.value}{drop}"


def judge(
    gates: Sequence[Gate], answers: Mapping[str, Array], before: Mapping[str, Array] | None, labels: Array
) -> tuple[Verdict, ...]:
    """What each gate says.

    Args:
        gates: The model's rules.
        answers: The version's answers by output name; the first output is scored.
        before: The serving version's answers to the same rows; None where none serves.
        labels: What is right.

    Raises:
        UsageError: A metric does not fit the output or the labels.
    """
    return tuple(_verdict(gate, _first(answers), _first(before) if before else None, labels) for gate in gates)


def _first(answers: Mapping[str, Array]) -> Array:
    return next(iter(answers.values()))


def _verdict(gate: Gate, answer: Array, before: Array | None, labels: Array) -> Verdict:
    scorer, rows = metrics.prepare(gate.metric, answer, labels), len(labels)
    value = intervals.interval(scorer, rows)
    drop = known = None
    if before is not None:
        old = metrics.prepare(gate.metric, before, labels)
        drop = intervals.paired(old, scorer, rows, lambda was, now: metrics.worsening(gate.metric, was, now))
        known = value.value + drop.value * (-1 if gate.metric in metrics.LESS_IS_BETTER else 1)
    return Verdict(gate=gate, value=value, before=known, drop=drop, problems=tuple(_problems(gate, value, drop)))


def _problems(gate: Gate, value: Interval, drop: Interval | None) -> list[str]:
    """The limits that are not kept. What is measured may be off its limit by a rounding error."""
    tiny = 1e-9
    found = []
    least, most = (value.low, value.high) if gate.sure else (value.value, value.value)
    if gate.min is not None and least < gate.min - tiny:
        found.append(f"{gate.metric} is {value}, at least {gate.min:g} is needed")
    if gate.max is not None and most > gate.max + tiny:
        found.append(f"{gate.metric} is {value}, at most {gate.max:g} is allowed")
    if gate.max_drop is not None and drop is not None:
        worst = drop.high if gate.sure else drop.value
        if worst > gate.max_drop + tiny:
            found.append(f"{gate.metric} drops by {drop}, at most {gate.max_drop:g} is allowed")
    return found
