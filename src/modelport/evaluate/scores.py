"""The scores of a version: every metric with its interval, for all rows and for each group of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelport.errors import UsageError
from modelport.evaluate import intervals, metrics
from modelport.evaluate.data import EvaluationData
from modelport.evaluate.forms import Array
from modelport.evaluate.intervals import Interval

FEWEST_ROWS = 2  # of a group; fewer say nothing
FEW_ROWS = 100  # fewer show that it works, not how well


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A group of rows.

    Attributes:
        column: What the rows are grouped by.
        value: What the rows of this group have in common.
        rows: How many there are.
        scores: Metric to its value; a metric that means nothing for these rows is left out.
    """

    column: str
    value: str
    rows: int
    scores: Mapping[str, Interval]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a version's answers are worth.

    Attributes:
        output: The output that was scored.
        rows: How many rows there are.
        scores: Metric to its value, the most telling one first.
        slices: The same by group.
        confusion: How often each class was answered, [right class][answered class]; None for more than 50 classes, or
            where there are no classes.
    """

    output: str
    rows: int
    scores: Mapping[str, Interval]
    slices: tuple[Slice, ...] = ()
    confusion: tuple[tuple[int, ...], ...] | None = None


MOST_CLASSES = 50


def score(
    answers: Mapping[str, Array],
    data: EvaluationData,
    *,
    wanted: Sequence[str] = (),
    output: str | None = None,
    resamples: int = intervals.RESAMPLES,
) -> Scores:
    """Score the answers to labelled data.

    Args:
        answers: Output name to array [rows, ...].
        data: The rows.
        wanted: Metrics; empty for those of the data and the usual ones for such answers.
        output: The output to score; None for the first.
        resamples: How often the rows are drawn for the intervals.

    Raises:
        UsageError: There is no such output or metric, or a metric does not fit.
    """
    name = output or next(iter(answers))
    if name not in answers:
        raise UsageError(
            f"there is no output {name!r}", why=f"the model gives {', '.join(answers)}", fix="name one of these"
        )
    answer, labels = answers[name], data.labels
    names = tuple(dict.fromkeys(map(metrics.known, wanted or (*data.metrics, *metrics.usual(answer, labels)))))
    return Scores(
        output=name,
        rows=data.rows,
        scores=_scored(names, answer, labels, resamples),
        slices=tuple(
            _slice(column, value, rows, names, answer, labels, resamples)
            for column, groups in data.groups().items()
            for value, rows in groups.items()
        ),
        confusion=_confusion(answer, labels),
    )


def _scored(names: Sequence[str], answer: Array, labels: Array, resamples: int) -> dict[str, Interval]:
    return {
        name: intervals.interval(metrics.prepare(name, answer, labels), len(labels), resamples=resamples)
        for name in names
    }


def _slice(
    column: str, value: str, rows: Array, names: Sequence[str], answer: Array, labels: Array, resamples: int
) -> Slice:
    found: dict[str, Interval] = {}
    for name in names if len(rows) >= FEWEST_ROWS else ():
        try:
            found |= _scored((name,), answer[rows], labels[rows], resamples)
        except UsageError:  # such as ROC AUC of rows of one class; all rows together do fit
            continue
    return Slice(column=column, value=value, rows=len(rows), scores=found)


def _confusion(answer: Array, labels: Array) -> tuple[tuple[int, ...], ...] | None:
    try:
        table = metrics.confusion(answer, labels)
    except UsageError:
        return None
    return tuple(tuple(map(int, row)) for row in table) if len(table) <= MOST_CLASSES else None
