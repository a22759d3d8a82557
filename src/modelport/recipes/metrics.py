"""Scores of a model's answers, by name. Each looks at the first output and at what is right.

Higher is better for all of them. `truth` holds one row for each sample: class numbers for the classifiers, values
for `r2`, and for `top5` and `recall_at_10` a bool array [samples, classes or items] that is true where right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as scores

from modelport.errors import UsageError

Array = NDArray[Any]


def classes(answer: Array) -> Array:
    """Class numbers: the largest of several scores, or whether a single probability is above one half."""
    return answer.argmax(axis=1) if answer.shape[1] > 1 else (answer[:, 0] > 0.5).astype(np.int64)


def _top5(answer: Array, truth: Array) -> float:
    best = np.argsort(-answer, axis=1, kind="stable")[:, :5]
    return float(np.take_along_axis(truth, best, axis=1).any(axis=1).mean())


def _recall_at_10(answer: Array, truth: Array) -> float:
    """Mean share of a person's held-out items among the first ten; `answer` holds item positions."""
    hits = np.take_along_axis(truth, answer[:, :10], axis=1).sum(axis=1)
    return float((hits / truth.sum(axis=1)).mean())


METRICS: Mapping[str, Callable[[Array, Array], float]] = {
    "accuracy": lambda answer, truth: float(scores.accuracy_score(truth, classes(answer))),
    "precision": lambda answer, truth: float(scores.precision_score(truth, classes(answer), zero_division=0)),
    "recall": lambda answer, truth: float(scores.recall_score(truth, classes(answer), zero_division=0)),
    "f1": lambda answer, truth: float(scores.f1_score(truth, classes(answer), zero_division=0)),
    "r2": lambda answer, truth: float(scores.r2_score(truth, answer)),
    "top5": _top5,
    "recall_at_10": _recall_at_10,
}


def score(name: str, answers: Mapping[str, Array], truth: Array) -> float:
    """The value of a metric.

    Args:
        name: One of `METRICS`.
        answers: Arrays by output name, the scored one first.
        truth: What is right.

    Raises:
        UsageError: There is no metric of that name.
    """
    if name not in METRICS:
        raise UsageError(
            f"there is no metric {name!r}",
            why="the recipe asks for one that modelport.recipes.metrics does not have",
            fix=f"use one of {', '.join(METRICS)}",
        )
    return METRICS[name](next(iter(answers.values())), truth)
