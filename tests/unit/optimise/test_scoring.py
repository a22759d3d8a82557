"""What an optimised model loses, and when that is too much."""

from __future__ import annotations

import numpy as np
import pytest

from modelport.errors import VerificationError
from modelport.optimise.scoring import AGREEMENT, EQUAL, R2, Judge, agreement


class Answers:
    """Gives fixed answers, by the number in the row."""

    def __init__(self, answers: np.ndarray) -> None:
        self.answers = answers

    def run(self, inputs):
        return {"y": self.answers[inputs["x"][:, 0]]}


def judge(original: np.ndarray, **more) -> Judge:
    return Judge(inputs={"x": np.arange(len(original))[:, None]}, original={"y": original}, **more)


@pytest.mark.parametrize(
    ("want", "got", "metric", "after"),
    [
        ([[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.7, 0.3]], AGREEMENT, 0.5),
        ([[1.0], [2.0], [3.0]], [[1.0], [2.0], [3.5]], R2, 0.875),
        ([[2.0], [2.0]], [[2.0], [2.0]], R2, 1.0),
    ],
)
def test_agreement_is_what_fits_the_answers(want, got, metric, after):
    found = agreement({"y": np.array(want)}, {"y": np.array(got)}, len(want))
    assert (found.metric, found.before, found.samples) == (metric, 1.0, len(want))
    assert found.after == pytest.approx(after) and found.drop == pytest.approx(1 - after)


def test_whole_numbers_have_to_be_equal():
    found = agreement({"y": np.array([[1, 2], [3, 4]])}, {"y": np.array([[1, 2], [4, 3]])}, 2)
    assert (found.metric, found.after) == (EQUAL, 0.5)


def test_the_metric_decides_where_the_right_answers_are_known_and_agreement_is_told_beside_it():
    original = np.eye(4)
    got = np.eye(4)[[0, 1, 2, 0]]
    known = judge(original, truth=np.array([0, 1, 2, 0]), metrics=("accuracy",))
    accuracy, same = known.scores(Answers(got))
    assert (accuracy.metric, accuracy.before, accuracy.after, same.after) == ("accuracy", 0.75, 1.0, 0.75)
    assert known.passes((accuracy, same)), "it became better, whatever the original said"
    unknown = judge(original)
    assert not unknown.passes(unknown.scores(Answers(got)))


def test_what_is_allowed_is_allowed_to_its_edge_and_no_further():
    original, got = np.eye(4), np.eye(4)[[0, 1, 2, 0]]
    for allowed, passes in ((0.25, True), (0.24, False)):
        one = judge(original, max_drop=allowed)
        assert one.passes(one.scores(Answers(got))) is passes
    with pytest.raises(VerificationError, match=r"falls from 1 to 0\.75 on 4 samples, allowed is a drop of 0\.24"):
        one.require(one.scores(Answers(got)), model="m", fix="")


def test_agreement_can_be_asked_for_whatever_the_metric_says():
    got = Answers(np.eye(4)[[0, 1, 2, 0]])
    one = judge(np.eye(4), truth=np.array([0, 1, 2, 0]), metrics=("accuracy",), min_agreement=0.8)
    with pytest.raises(
        VerificationError, match=r"top-1 agreement falls from 1 to 0\.75 on 4 samples, at least 0\.8 is"
    ):
        one.require(one.scores(got), model="m", fix="")


def test_more_of_an_error_is_a_drop():
    one = judge(np.array([[1.0], [2.0]]), truth=np.array([[1.0], [2.0]]), metrics=("mae",), max_drop=0.1)
    scores = one.scores(Answers(np.array([[1.0], [2.5]])))
    assert scores[0].drop == 0.25 and not one.passes(scores)
