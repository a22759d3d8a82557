"""The report of an evaluation: one HTML file that loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from modelport.errors import UsageError
from modelport.evaluate import charts, forms, metrics
from modelport.evaluate.forms import Array
from modelport.evaluate.intervals import Interval
from modelport.evaluate.scores import FEW_ROWS, Scores
from modelport.pages.page import Part, Text, render


def write(
    path: Path, facts: Mapping[str, str], found: Scores, answer: Array, labels: Array, names: Sequence[str] = ()
) -> None:
    """Write the page; under a temporary name first.

    Args:
        path: The HTML file; its folder is made.
        facts: What was evaluated, and how: name to words; `version` is the title.
        found: The scores.
        answer: The answers, of the scored output.
        labels: What is right.
        names: Of the classes, where they have some.

    Raises:
        UsageError: The file cannot be written.
    """
    text = page(facts, found, answer, labels, names)
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as exc:
        raise UsageError(f"the report {path} cannot be written", why=str(exc), fix="name another place") from exc


def page(facts: Mapping[str, str], found: Scores, answer: Array, labels: Array, names: Sequence[str] = ()) -> str:
    """The page's text; arguments as for `write`."""
    pictures = _pictures(found, answer, labels, names)
    parts = [_scores(found), *([Part(heading="Pictures", pictures=pictures)] if pictures else [])]
    parts += [_slices(found)] if found.slices else []
    parts += [Part(heading="How it was measured", rows=list(facts.items()), facts=True)]
    subtitle = "Scores of the answers that a server gave. In brackets: 95 % intervals, bootstrapped over the rows."
    return render(facts["version"], subtitle, parts)


def _scores(found: Scores) -> Part:
    texts = []
    if found.rows < FEW_ROWS:
        texts.append(
            Text(words=f"There are only {found.rows} rows: this shows that it works, not how well.", warning=True)
        )
    rows = [(name, *_cells([value])) for name, value in found.scores.items()]
    return Part(heading="Scores", texts=texts, columns=("metric", "value"), rows=rows)


def _slices(found: Scores) -> Part:
    rows = [
        (one.column, one.value, one.rows, *_cells(one.scores.get(name) for name in found.scores))
        for one in found.slices
    ]
    return Part(heading="By group of rows", columns=("column", "group", "rows", *found.scores), rows=rows)


def _cells(values: Iterable[Interval | None]) -> list[str]:
    return ["" if value is None else str(value) for value in values]


def _pictures(found: Scores, answer: Array, labels: Array, names: Sequence[str]) -> list[str]:
    table = found.confusion
    drawn = [] if table is None else [charts.confusion(table, _named(names, len(table)))]
    drawn += _of_classes(answer, labels, names)
    try:
        return drawn or [charts.residuals(*forms.values("residuals", answer, labels))]
    except UsageError:  # a ranking
        return []


def _of_classes(answer: Array, labels: Array, names: Sequence[str]) -> list[str]:
    """ROC and calibration, where the answers are scores of classes."""
    try:
        chances, right = _chances(answer, labels)
    except UsageError:  # the answers are numbers, or the classes themselves
        return []
    drawn = []
    if labels.ndim == 1:
        curves = _curves(*forms.positive_scores("ROC", answer, labels), _named(names, chances.shape[1]))
        drawn += [charts.roc(curves)] if curves else []
    if np.all((chances >= 0) & (chances <= 1)):  # no logits
        drawn.append(charts.calibration(chances.max(axis=1), right))
    return drawn


def _chances(answer: Array, labels: Array) -> tuple[Array, Array]:
    """The score of each class [rows, classes], and whether the largest is right; of a row several classes may be.

    Raises:
        UsageError: These are no classes.
    """
    chances = forms.scores("calibration", answer)
    if chances.shape == labels.shape and chances.shape[1] > 1 and labels.dtype == bool:
        return chances, labels[np.arange(len(labels)), chances.argmax(axis=1)]
    answered, right, _ = forms.class_numbers("calibration", answer, labels)
    return np.concatenate([1 - chances, chances], axis=1) if chances.shape[1] == 1 else chances, answered == right


def _curves(found: Array, right: Array, names: Sequence[str]) -> dict[str, tuple[Array, Array]]:
    """For each class, or as many of those with the most rows as can be told apart: false and true positive rates."""
    counts = np.bincount(right, minlength=len(names))
    classes = [1] if found.shape[1] == 1 else [int(c) for c in np.argsort(-counts, kind="stable")[: charts.MOST_CURVES]]
    curves = {}
    for one in classes:
        positive = right == one
        if positive.all() or not positive.any():
            continue
        scores = found[:, 0 if found.shape[1] == 1 else one]
        area = metrics.area(scores, positive)(np.ones(len(right)))
        curves[f"{names[one]} ({area:.3f})"] = _rates(scores, positive)
    return curves


def _rates(scores: Array, positive: Array) -> tuple[Array, Array]:
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # equal scores are one point
    true, false = np.cumsum(positive[order])[ends], np.cumsum(~positive[order])[ends]
    return np.append(0, false / max(1, false[-1])), np.append(0, true / max(1, true[-1]))


def _named(names: Sequence[str], classes: int) -> list[str]:
    if len(names) == 1 and classes == 2:
        return [f"not {names[0]}", names[0]]
    return list(names) if len(names) == classes else [str(number) for number in range(classes)]
