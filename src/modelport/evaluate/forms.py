"""What answers and labels are: classes, values, or rankings. What does not fit is said before anything is scored."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelport.errors import UsageError

Array = NDArray[Any]
TEXTS = "OUS"
CLASS_NAMES = "give class numbers; names do for a model that was exported with --labels FILE, which has them"


def unfit(
    metric: str,
    why: str,
    fix: str = "name another metric, or give other labels; 'modelport evaluate --output' scores another output",
) -> UsageError:
    """The error for a metric that does not fit the output or the labels."""
    return UsageError(f"the metric {metric} does not fit", why=why, fix=fix)


def columns(metric: str, answer: Array) -> Array:
    """The answer as [rows, columns].

    Raises:
        UsageError: It has more axes.
    """
    answer = flat(answer)
    if answer.ndim > 2:
        raise unfit(metric, f"the output has the shape {list(answer.shape)}; scored are outputs of one row of numbers")
    return answer.reshape(len(answer), -1)


def flat(answer: Array) -> Array:
    """Rows of numbers as [rows, columns], such as [rows, 1, columns]; what has more than that is left as it is."""
    many = sum(size > 1 for size in answer.shape[1:])
    return answer.reshape(len(answer), -1) if answer.ndim > 2 and many <= 1 else answer


def scores(metric: str, answer: Array) -> Array:
    """The answer as a score for each class or item, [rows, classes].

    Raises:
        UsageError: It is something else.
    """
    found = columns(metric, answer)
    if found.dtype.kind != "f":
        raise unfit(metric, f"it needs a score for each class, and the output is of type {found.dtype}")
    return found


def class_numbers(metric: str, answer: Array, labels: Array) -> tuple[Array, Array, int]:
    """The class that is answered and the right one for each row, and how many classes there are.

    The answer is a score for each class, of which the largest counts; a single probability, which counts as class 1
    above one half; or the class itself, as a number or a text.

    Raises:
        UsageError: The answer or the labels are something else.
    """
    found = columns(metric, answer)
    if labels.ndim != 1:
        raise unfit(metric, f"it needs one class for each row, and the labels have the shape {list(labels.shape)}")
    if found.dtype.kind in TEXTS or labels.dtype.kind in TEXTS:
        return _texts(metric, found, labels)
    right = _whole(metric, labels)
    if found.dtype.kind == "f":
        answered, classes = _best(metric, found, right)
    elif found.shape[1] == 1:
        answered = found[:, 0].astype(np.int64)
        classes = int(max(answered.max(), right.max())) + 1
    else:
        raise unfit(metric, f"the output holds {found.shape[1]} whole numbers for each row, not a class")
    if right.min() < 0 or right.max() >= max(classes, 2):
        raise unfit(metric, f"the labels go from {right.min()} to {right.max()}, and the output has {classes} classes")
    return answered, right, max(classes, 2)


def positive_scores(metric: str, answer: Array, labels: Array) -> tuple[Array, Array]:
    """A score for each class, and the right class. A single probability, or two classes, is one score: of class 1.

    Raises:
        UsageError: The answer or the labels are something else.
    """
    found = scores(metric, answer)
    _, right, _ = class_numbers(metric, answer, labels)
    return (found[:, 1:] if found.shape[1] == 2 else found), right


def relevance(metric: str, labels: Array) -> Array:
    """How much each item is worth to each row, [rows, items].

    Raises:
        UsageError: The labels are something else.
    """
    if labels.ndim != 2 or labels.dtype.kind not in "bif":
        raise unfit(metric, f"it needs labels [rows, items]; they are {labels.dtype} {list(labels.shape)}")
    worth = labels.astype(np.float64)
    if not worth.any(axis=1).any() or worth.min() < 0:
        raise unfit(metric, "the labels name no item that is worth anything, or some are worth less than nothing")
    return worth


def ranking(metric: str, answer: Array, items: int, first: int) -> Array:
    """The positions of the first items of each row, best first: the answer itself, or by its scores.

    Raises:
        UsageError: The answer ranks fewer, or other items.
    """
    found = columns(metric, answer)
    if found.dtype.kind == "f" and found.shape[1] == items:
        found = np.argsort(-found, axis=1, kind="stable")
    elif found.dtype.kind not in "iu":
        raise unfit(metric, f"it needs items' positions or {items} scores; the output is {found.dtype}")
    if found.shape[1] < first:
        raise unfit(metric, f"the output ranks {found.shape[1]} items, not {first}", fix="ask for fewer items")
    best: Array = found[:, :first].astype(np.int64)
    if best.min() < 0 or best.max() >= items:
        raise unfit(metric, f"the output names item {best.max()}, and the labels have {items}")
    return best


def values(metric: str, answer: Array, labels: Array) -> tuple[Array, Array]:
    """Answered and right numbers, both [rows, numbers].

    Raises:
        UsageError: Their shapes differ, or they are no numbers.
    """
    found, right = columns(metric, answer), labels.reshape(len(labels), -1)
    if found.dtype.kind not in "iuf" or right.dtype.kind not in "iuf" or found.shape != right.shape:
        why = f"it needs a right number for each answered one; the output is {found.dtype} {list(found.shape)}, "
        raise unfit(metric, why + f"the labels are {right.dtype} {list(right.shape)}")
    return found.astype(np.float64), right.astype(np.float64)


def _best(metric: str, found: Array, right: Array) -> tuple[Array, int]:
    if found.shape[1] > 1:
        return found.argmax(axis=1), found.shape[1]
    if not np.all((found >= 0) & (found <= 1)):
        raise unfit(metric, "the output is a single number for each row, and no probability: some are not from 0 to 1")
    return (found[:, 0] > 0.5).astype(np.int64), 2


def _whole(metric: str, labels: Array) -> Array:
    if labels.dtype.kind in "iub":
        return labels.astype(np.int64)
    if labels.dtype.kind == "f" and np.all(labels == np.floor(labels)):
        return labels.astype(np.int64)
    raise unfit(metric, f"the labels are {labels.dtype}, and no numbers of classes")


def _texts(metric: str, found: Array, labels: Array) -> tuple[Array, Array, int]:
    if found.dtype.kind not in TEXTS or labels.dtype.kind not in TEXTS or found.shape[1] != 1:
        why = f"the labels are {labels.dtype}, the output is {found.dtype}: texts are scored by texts"
        raise unfit(metric, why, fix=CLASS_NAMES if found.dtype.kind not in TEXTS else "give texts as labels")
    both = np.concatenate([labels.astype(str), found[:, 0].astype(str)])
    names, codes = np.unique(both, return_inverse=True)
    return codes[len(labels) :], codes[: len(labels)], max(2, len(names))
