"""Scores of a model's answers, by name: of one output, and what is right.

A metric is prepared once for the answers and then taken with weights for the rows: a bootstrap resample is a weight for
each row, so that a thousand of them cost little. Labels (`truth`) hold one row for each sample:

| metrics | labels |
|---|---|
| accuracy, precision, recall, f1, roc_auc | class numbers [rows]; texts where the output is texts |
| top5 (any number) | class numbers [rows], or what is right [rows, classes] of bool |
| recall_at_10, ndcg_at_10 (any number) | what each item is worth [rows, items] |
| r2, mae | the right numbers, as the output |

precision, recall and f1 of two classes are those of class 1; of more, the mean over the classes. So is roc_auc, each
class against all others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

import numpy as np

from modelport.errors import UsageError
from modelport.evaluate import forms
from modelport.evaluate.forms import Array

Scorer = Callable[[Array], float]
Prepare = Callable[[str, Array, Array], Scorer]
_COUNTED = re.compile(r"(top|recall_at_|ndcg_at_)([1-9][0-9]{0,3})")
CLASSES = ("accuracy", "precision", "recall", "f1", "roc_auc")
USUAL = (CLASSES, ("top5",), ("recall_at_10", "ndcg_at_10"), ("r2", "mae"))
LESS_IS_BETTER = frozenset({"mae"})
_BOUNDS = {"mae": (0.0, math.inf), "r2": (-math.inf, 1.0)}  # all others are from 0 to 1
UNBOUNDED = frozenset(_BOUNDS)


def score(name: str, answers: Mapping[str, Array], truth: Array) -> float:
    """The value of a metric.

    Args:
        name: Such as `accuracy`.
        answers: Arrays by output name, the scored one first.
        truth: What is right.

    Raises:
        UsageError: There is no metric of that name, or it does not fit.
    """
    return prepare(name, next(iter(answers.values())), truth)(np.ones(len(truth)))


def prepare(name: str, answer: Array, labels: Array) -> Scorer:
    """A function from weights [rows] to the metric.

    Raises:
        UsageError: There is no metric of that name, or it does not fit the output or the labels.
    """
    name = known(name)
    if len(answer) != len(labels) or not len(labels):
        raise forms.unfit(name, f"there are {len(labels)} labels and {len(answer)} answers", fix="give one label a row")
    if answer.dtype.kind == "f" and not np.isfinite(answer).all():
        raise forms.unfit(name, "some answers are no numbers (NaN or infinite)", fix="look into the model")
    counted = _COUNTED.fullmatch(name)
    if counted:
        return _AT[counted[1]](name, int(counted[2]), answer, np.asarray(labels))
    return _METRICS[name](name, answer, np.asarray(labels))


def known(name: str) -> str:
    """A metric's name as it is kept: `recall@10` is `recall_at_10`, `top-5` is `top5`.

    Raises:
        UsageError: There is no such metric.
    """
    plain = name.strip().lower().replace("@", "_at_").replace("-", "")
    if plain in _METRICS or _COUNTED.fullmatch(plain):
        return plain
    raise UsageError(
        f"there is no metric {name!r}",
        why="a metric is known by its name",
        fix=f"use one of {', '.join(_METRICS)}, top5, recall@10, ndcg@10 (or another number)",
    )


def bounds(name: str) -> tuple[float, float]:
    """The least and the greatest value that a metric can have."""
    return _BOUNDS.get(name, (0.0, 1.0))


def worsening(name: str, before: float, after: float) -> float:
    """By how much a metric is worse than before; negative where it is better."""
    return after - before if name in LESS_IS_BETTER else before - after


def usual(answer: Array, labels: Array) -> tuple[str, ...]:
    """The metrics that are shown where none was asked for: the first kind that fits."""
    for group in USUAL:
        found = [name for name in group if _fits(name, answer, labels)]
        if found:
            many = group is CLASSES and answer.ndim == 2 and answer.shape[1] > 20
            return (*found, "top5") if many and _fits("top5", answer, labels) else tuple(found)
    raise UsageError(
        "no metric fits the output and the labels",
        why=f"the output is {answer.dtype} {list(answer.shape)}, the labels are {labels.dtype} {list(labels.shape)}",
        fix=forms.CLASS_NAMES
        if labels.dtype.kind in forms.TEXTS and answer.dtype.kind not in forms.TEXTS
        else "name another output with --output, or give other labels",
    )


def confusion(answer: Array, labels: Array) -> Array:
    """How often each class was answered, [right class, answered class].

    Raises:
        UsageError: Answers or labels are no classes.
    """
    answered, right, classes = forms.class_numbers("confusion matrix", answer, labels)
    return _table(answered, right, classes, np.ones(len(right))).astype(np.int64)


def _fits(name: str, answer: Array, labels: Array) -> bool:
    try:
        prepare(name, answer, labels)
    except UsageError:
        return False
    return True


def mean(rows: Array) -> Scorer:
    """The mean of a number for each row."""
    numbers = np.asarray(rows, dtype=np.float64)
    return lambda weights: float(weights @ numbers / weights.sum())


def _accuracy(name: str, answer: Array, labels: Array) -> Scorer:
    if labels.ndim == 2 and labels.dtype == bool:  # several may be right
        return _top(name, 1, answer, labels)
    answered, right, _ = forms.class_numbers(name, answer, labels)
    return mean(answered == right)


def _top(name: str, count: int, answer: Array, labels: Array) -> Scorer:
    found = forms.scores(name, answer)
    if labels.ndim == 1:
        _, right, _ = forms.class_numbers(name, answer, labels)
        labels = np.arange(found.shape[1]) == right[:, None]
    if labels.shape != found.shape or labels.dtype != bool:
        raise forms.unfit(name, f"the labels are {labels.dtype} {list(labels.shape)}, the output {list(found.shape)}")
    if count >= found.shape[1]:
        raise forms.unfit(name, f"the output has {found.shape[1]} classes: the right one is always among {count}")
    best = np.argsort(-found, axis=1, kind="stable")[:, :count]
    return mean(np.take_along_axis(labels, best, axis=1).any(axis=1))


def _recall_at(name: str, count: int, answer: Array, labels: Array) -> Scorer:
    worth = forms.relevance(name, labels) > 0
    best = forms.ranking(name, answer, labels.shape[1], count)
    hits, wanted = np.take_along_axis(worth, best, axis=1).sum(axis=1), worth.sum(axis=1)
    return _of_some(hits / np.maximum(wanted, 1), wanted > 0)


def _ndcg_at(name: str, count: int, answer: Array, labels: Array) -> Scorer:
    worth = forms.relevance(name, labels)
    best = forms.ranking(name, answer, labels.shape[1], count)
    discount = 1 / np.log2(np.arange(2, count + 2))
    ideal = -np.sort(-worth, axis=1)[:, :count]
    most = ideal @ discount[: ideal.shape[1]]
    return _of_some(np.take_along_axis(worth, best, axis=1) @ discount / np.where(most > 0, most, 1), most > 0)


def _of_some(rows: Array, counts: Array) -> Scorer:
    """The mean over those rows for which there is anything to find."""
    scorer = mean(rows)
    return lambda weights: scorer(weights * counts)


def _table(answered: Array, right: Array, classes: int, weights: Array) -> Array:
    return np.bincount(right * classes + answered, weights, classes * classes).reshape(classes, classes)


def _by_class(of: Callable[[Array, Array, Array], Array]) -> Prepare:
    """Made of three sums for each class: rightly answered, answered, and right ones."""

    def prepared(name: str, answer: Array, labels: Array) -> Scorer:
        answered, right, classes = forms.class_numbers(name, answer, labels)

        def scorer(weights: Array) -> float:
            hits = np.bincount(right[answered == right], weights[answered == right], classes)
            said, there = np.bincount(answered, weights, classes), np.bincount(right, weights, classes)
            each = of(hits, said, there)
            return float(each[1] if classes == 2 else each[said + there > 0].mean())

        return scorer

    return prepared


def _share(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _roc_auc(name: str, answer: Array, labels: Array) -> Scorer:
    found, right = forms.positive_scores(name, answer, labels)
    classes = [1] if found.shape[1] == 1 else sorted({*right.tolist()})
    if len({*right.tolist()}) < 2:
        raise forms.unfit(name, "all labels are of one class: there is nothing to tell apart", fix="give more labels")
    each = [area(found[:, 0 if len(classes) == 1 else c], right == c) for c in classes]
    return lambda weights: float(np.nanmean([one(weights) for one in each]))


def area(scores: Array, positive: Array) -> Scorer:
    """How probable it is that a positive row has the higher score than another; equal ones count half."""
    _, group = np.unique(scores, return_inverse=True)
    count = int(group.max()) + 1

    def scorer(weights: Array) -> float:
        ours = np.bincount(group, weights * positive, count)
        others = np.bincount(group, weights * ~positive, count)
        pairs = ours.sum() * others.sum()
        return float(ours @ (np.cumsum(others) - others / 2) / pairs) if pairs else float("nan")

    return scorer


def _r2(name: str, answer: Array, labels: Array) -> Scorer:
    found, right = forms.values(name, answer, labels)
    if np.any(right.min(axis=0) == right.max(axis=0)):
        raise forms.unfit(name, "all labels are equal: there is nothing to explain", fix="give more labels, or use mae")

    def scorer(weights: Array) -> float:
        middle = weights @ right / weights.sum()
        spread = weights @ (right - middle) ** 2
        left = weights @ (right - found) ** 2
        return float(np.mean(1 - left / np.where(spread > 0, spread, np.nan)))

    return scorer


def _mae(name: str, answer: Array, labels: Array) -> Scorer:
    found, right = forms.values(name, answer, labels)
    return mean(np.abs(found - right).mean(axis=1))


_METRICS: dict[str, Prepare] = {
    "accuracy": _accuracy,
    "precision": _by_class(lambda hits, said, there: _share(hits, said)),
    "recall": _by_class(lambda hits, said, there: _share(hits, there)),
    "f1": _by_class(lambda hits, said, there: _share(2 * hits, said + there)),
    "roc_auc": _roc_auc,
    "r2": _r2,
    "mae": _mae,
}
_AT: dict[str, Callable[[str, int, Array, Array], Scorer]] = {
    "top": _top,
    "recall_at_": _recall_at,
    "ndcg_at_": _ndcg_at,
}
