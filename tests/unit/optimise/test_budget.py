"""A budget is one sentence: what it can be, what it cannot, and how it decides."""

from __future__ import annotations

import numpy as np
import pytest

from modelport.errors import UsageError, VerificationError
from modelport.optimise.ladder.budget import parse
from modelport.optimise.scoring import AGREEMENT, Judge

TRUTH = np.arange(20) % 2
EXACT = np.eye(2, dtype=np.float32)[TRUTH]


def judge(**more) -> Judge:
    return Judge(inputs={"x": np.arange(20)[:, None]}, original={"y": EXACT}, **more)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("accuracy drop <= 0.01", "accuracy drop <= 0.01"),
        ("  Accuracy drop<=1% ", "accuracy drop <= 0.01"),
        ("recall@10 ≥ .9", "recall_at_10 >= 0.9"),
        ("mae <= 2.5", "mae <= 2.5"),
        ("mae drop <= 3", "mae drop <= 3"),
        ("agreement >= 95%", "agreement >= 0.95"),
        ("top-1 agreement drop <= 0.05", "agreement drop <= 0.05"),
        ("top-5 drop <= 0", "top5 drop <= 0"),
    ],
)
def test_a_budget_is_a_metric_a_comparison_and_a_bound(text, shown):
    assert str(parse(text)) == shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be understood"),
        ("accuracy", "cannot be understood"),
        ("accuracy drop < 0.01", "cannot be understood"),
        ("accuracy drop <= -0.01", "cannot be understood"),
        ("accuracy drop <= 0.01 and f1 >= 1", "cannot be understood"),
        ("drop <= 0.01", "no metric 'drop'"),
        ("speed drop <= 0.01", "no metric 'speed'"),
        ("accuracy drop >= 0.01", "drop is better when it is lower"),
        ("accuracy <= 0.9", "accuracy is better when it is higher"),
        ("mae >= 2", "mae is better when it is lower"),
        ("accuracy drop <= 5", "5 % is written 5%"),
        ("mae <= 5%", "mae has no percent"),
    ],
)
def test_what_is_no_budget_is_one_clear_error(text, words):
    with pytest.raises(UsageError) as raised:
        parse(text)
    assert words in str(raised.value)


def test_the_metric_of_the_budget_decides_and_comes_first():
    found = parse("f1 drop <= 0.2").applied(judge(truth=TRUTH, metrics=("accuracy", "f1")))
    assert (found.metrics, found.allowed) == (("f1", "accuracy"), 0.2)
    worse = EXACT.copy()
    worse[0] = worse[0][::-1]
    scores = found.scored({"y": worse})
    assert [score.metric for score in scores] == ["f1", "accuracy", AGREEMENT] and found.passes(scores)
    seen = found.interval({"y": worse})
    assert seen.low <= seen.value == scores[0].drop <= seen.high


def test_a_limit_for_the_figure_itself_allows_the_drop_down_to_it():
    assert parse("accuracy >= 0.9").applied(judge(truth=TRUTH)).allowed == pytest.approx(0.1)
    numbers = Judge(inputs={"x": np.zeros((4, 1))}, original={"y": np.ones((4, 1), np.float32)}, truth=np.zeros((4, 1)))
    assert parse("mae <= 1.25").applied(numbers).allowed == pytest.approx(0.25)
    with pytest.raises(VerificationError, match=r"original does not keep the budget 'mae <= 0\.5' itself"):
        parse("mae <= 0.5").applied(numbers)


def test_agreement_decides_though_metrics_are_known():
    found = parse("agreement >= 0.9").applied(judge(truth=TRUTH, metrics=("accuracy",)))
    worse = EXACT[:, ::-1].copy()
    worse[:18] = EXACT[:18]
    scores = found.scored({"y": worse})
    assert [score.metric for score in scores] == [AGREEMENT, "accuracy"] and found.passes(scores)
    assert found.interval({"y": worse}).value == pytest.approx(0.1)
    worse[0] = worse[0][::-1]
    assert not found.passes(found.scored({"y": worse}))


def test_a_metric_needs_somebody_who_knows_what_is_right_and_answers_that_it_fits():
    with pytest.raises(UsageError, match=r"agreement >= 0\.95"):
        parse("accuracy drop <= 0.01").applied(judge())
    with pytest.raises(UsageError, match="recall_at_2"):
        parse("recall@2 drop <= 0.01").applied(judge(truth=TRUTH))
