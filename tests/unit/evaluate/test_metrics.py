"""The metrics, against values that were worked out by hand, and against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as theirs

from modelport.errors import UsageError
from modelport.evaluate.metrics import LESS_IS_BETTER, confusion, known, prepare, score, usual, worsening

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
    assert all(name in caught.value.fix for name in ("accuracy", "roc_auc", "top5", "recall@10", "ndcg@10", "mae"))


@pytest.fixture(params=[2, 4])
def classified(request):
    """Probabilities of classes with ties, right classes, weights with zeros."""
    random = np.random.default_rng(request.param)
    labels = random.integers(0, request.param, 200)
    chances = random.random((200, request.param)).round(1) + 0.4 * (np.arange(request.param) == labels[:, None]) + 0.01
    weights = random.integers(0, 4, 200).astype(float)
    return (chances / chances.sum(axis=1, keepdims=True)).astype(np.float32), labels, weights


@pytest.mark.parametrize("name", ["accuracy", "precision", "recall", "f1", "roc_auc"])
def test_classes_are_scored_as_scikit_learn_does_with_weights_too(name, classified):
    chances, labels, weights = classified
    two = chances.shape[1] == 2
    answered = chances.argmax(axis=1)
    average = {"average": "binary" if two else "macro", "zero_division": 0}
    expected = {
        "accuracy": lambda w: theirs.accuracy_score(labels, answered, sample_weight=w),
        "precision": lambda w: theirs.precision_score(labels, answered, sample_weight=w, **average),
        "recall": lambda w: theirs.recall_score(labels, answered, sample_weight=w, **average),
        "f1": lambda w: theirs.f1_score(labels, answered, sample_weight=w, **average),
        "roc_auc": lambda w: (
            theirs.roc_auc_score(
                labels,
                chances[:, 1] if two else chances.astype(float),
                sample_weight=w,
                **({} if two else {"multi_class": "ovr"}),
            )
            if two
            else np.mean([theirs.roc_auc_score(labels == c, chances[:, c], sample_weight=w) for c in range(4)])
        ),
    }[name]
    scorer = prepare(name, chances, labels)
    for w in (np.ones(200), weights):
        assert scorer(w) == pytest.approx(expected(w))


def test_values_and_rankings_are_scored_as_scikit_learn_does():
    random = np.random.default_rng(0)
    right = random.random((50, 3))
    answer, weights = right + random.normal(0, 0.2, right.shape), random.integers(0, 3, 50).astype(float)
    assert prepare("r2", answer, right)(weights) == pytest.approx(theirs.r2_score(right, answer, sample_weight=weights))
    expected = theirs.mean_absolute_error(right, answer, sample_weight=weights)
    assert prepare("mae", answer, right)(weights) == pytest.approx(expected)
    worth, scores = random.integers(0, 4, (30, 12)), random.random((30, 12))
    assert score("ndcg@5", {"s": scores}, worth) == pytest.approx(theirs.ndcg_score(worth, scores, k=5))
    items = np.argsort(-scores, axis=1)
    assert score("ndcg_at_5", {"items": items}, worth) == pytest.approx(theirs.ndcg_score(worth, scores, k=5))


def test_the_confusion_matrix_has_a_row_for_each_right_class():
    assert confusion(CHANCE["probability"], np.array([1, 1, 1, 0, 0])).tolist() == [[1, 1], [1, 2]]


def test_texts_are_classes_too():
    answer = np.array([["good"], ["bad"], ["good"]], dtype=object)
    assert score("accuracy", {"label": answer}, np.array(["good", "good", "good"])) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("name", "answer", "labels", "words"),
    [
        ("accuracy", np.array([[3.5], [-2.0]]), np.array([0, 1]), "no probability"),
        ("accuracy", SCORES["probabilities"], np.array([0.5, 1, 2, 2]), "no numbers of classes"),
        ("accuracy", SCORES["probabilities"], np.array([0, 1, 2, 3]), "the output has 3 classes"),
        ("roc_auc", CHANCE["probability"], np.array([1, 1, 1, 1, 1]), "all labels are of one class"),
        ("roc_auc", np.array([[0], [1]]), np.array([0, 1]), "a score for each class"),
        ("top5", SCORES["probabilities"], np.array([0, 1, 2, 2]), "always among 5"),
        ("r2", SCORES["probabilities"], np.array([0, 1, 2, 2]), "a right number for each"),
        ("r2", np.array([[1.0], [2.0]]), np.array([3.0, 3.0]), "all labels are equal"),
        ("recall@2", SCORES["probabilities"], np.array([0, 1, 2, 2]), "labels [rows, items]"),
        ("ndcg@4", SCORES["probabilities"], np.ones((4, 3)), "ranks 3 items, not 4"),
        ("mae", np.array([[np.nan]]), np.array([1.0]), "no numbers"),
        ("mae", np.zeros((2, 1)), np.zeros(3), "3 labels and 2 answers"),
        ("accuracy", np.zeros((2, 3, 4)), np.array([0, 1]), "the shape [2, 3, 4]"),
    ],
)
def test_a_metric_that_does_not_fit_says_why(name, answer, labels, words):
    with pytest.raises(UsageError) as caught:
        prepare(name, answer, labels)
    assert f"the metric {known(name)} does not fit" in caught.value.what and words in caught.value.why


def test_the_usual_metrics_are_those_that_fit():
    assert usual(SCORES["probabilities"], np.array([0, 1, 2, 2])) == (
        "accuracy",
        "precision",
        "recall",
        "f1",
        "roc_auc",
    )
    assert usual(np.array([[1.0], [2.5]]), np.array([1.0, 2.0])) == ("r2", "mae")
    assert usual(np.arange(20).reshape(2, 10), np.eye(2, 20, dtype=bool)) == ("recall_at_10", "ndcg_at_10")


def test_a_drop_is_what_became_worse():
    assert worsening("accuracy", 0.9, 0.8) == pytest.approx(0.1)
    assert {"mae"} == LESS_IS_BETTER and worsening("mae", 0.1, 0.3) == pytest.approx(0.2)
