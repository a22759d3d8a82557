"""The metrics, against values that were worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from modelport.errors import UsageError
from modelport.recipes.metrics import METRICS, score

SCORES = {"probabilities": np.array([[0.9, 0.1, 0], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])}
CHANCE = {"probability": np.array([[0.9], [0.8], [0.4], [0.6], [0.1]])}


@pytest.mark.parametrize(
    ("name", "answers", "truth", "value"),
    [
        ("accuracy", SCORES, [0, 1, 2, 2], 3 / 4),
        ("accuracy", CHANCE, [1, 1, 1, 0, 0], 3 / 5),
        ("precision", CHANCE, [1, 1, 1, 0, 0], 2 / 3),
        ("recall", CHANCE, [1, 1, 1, 1, 0], 3 / 4),
        ("f1", CHANCE, [1, 1, 1, 0, 0], 2 / 3),
        ("r2", {"y": np.array([[1.0], [2.0], [3.0]])}, [[1.0], [2.0], [3.0]], 1.0),
        ("r2", {"y": np.array([[2.0], [2.0], [2.0]])}, [[1.0], [2.0], [3.0]], 0.0),
    ],
)
def test_value(name, answers, truth, value):
    assert score(name, answers, np.array(truth)) == pytest.approx(value)


def test_top5_counts_a_row_when_any_right_class_is_among_the_five_best():
    answer = np.tile(np.arange(10.0), (3, 1))  # the best five are 5 to 9
    truth = np.zeros((3, 10), dtype=bool)
    truth[0, [1, 5]] = truth[1, 9] = truth[2, [0, 4]] = True
    assert score("top5", {"p": answer}, truth) == pytest.approx(2 / 3)


def test_recall_at_10_is_the_mean_share_of_what_was_held_out():
    items = np.tile(np.arange(10), (2, 1))
    truth = np.zeros((2, 20), dtype=bool)
    truth[0, [0, 9, 10, 11]] = True  # two of four
    truth[1, [5]] = True  # one of one
    assert score("recall_at_10", {"items": items, "scores": items}, truth) == pytest.approx(3 / 4)


def test_an_unknown_metric_is_refused_with_the_known_ones():
    with pytest.raises(UsageError) as caught:
        score("beauty", SCORES, np.array([0]))
    assert all(name in caught.value.fix for name in METRICS)
