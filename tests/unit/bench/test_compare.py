"""Ratios with intervals that are honest: they hold as often as they say, and say when they know nothing."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from scipy import stats

from modelport.bench import compare
from modelport.errors import UsageError


def numbered(values):
    return dict(enumerate(values))


def test_the_table_of_students_t_is_right():
    for freedom, value in enumerate(compare.T_975, start=1):
        assert value == pytest.approx(stats.t.ppf(0.975, freedom), abs=6e-4)


def test_in_turns_each_round_gives_a_ratio_of_its_own():
    """The machine is three times as fast in the last round, for both: the ratios hardly move."""
    slow_and_fast = numbered([100.0, 102.0, 300.0]), numbered([50.0, 50.0, 150.0])
    together = compare.ratio(*slow_and_fast, in_turns=True)
    assert together.value == pytest.approx(2.013, abs=1e-3)
    assert 1.9 < together.low < 2 < together.high < 2.1 and together.sure
    apart = compare.ratio(*slow_and_fast, in_turns=False)
    assert apart.value == pytest.approx(together.value)
    assert not apart.sure, "without the pairs the same figures show nothing"


def test_the_interval_is_students_t_of_the_logarithms():
    a, b = [110.0, 120.0, 105.0, 130.0], [100.0, 101.0, 99.0, 103.0]
    found = compare.ratio(numbered(a), numbered(b), in_turns=True)
    logs = np.log(np.array(a) / np.array(b))
    low, high = stats.t.interval(0.95, 3, logs.mean(), stats.sem(logs))
    assert (found.low, found.high) == (pytest.approx(np.exp(low), rel=1e-3), pytest.approx(np.exp(high), rel=1e-3))


@pytest.mark.parametrize("in_turns", [True, False])
def test_the_intervals_hold_as_often_as_they_say(in_turns):
    """Of 2,000 comparisons with five rounds each, the truth is outside in about 5 %."""
    draw = random.Random(7)
    missed = 0
    for _ in range(2000):
        a = numbered(200 * draw.lognormvariate(0, 0.1) for _ in range(5))
        b = numbered(100 * draw.lognormvariate(0, 0.1) for _ in range(5))
        found = compare.ratio(a, b, in_turns=in_turns)
        missed += not found.low <= 2 <= found.high
    assert 60 <= missed <= 140


def test_one_round_gives_no_interval():
    for in_turns in (True, False):
        found = compare.ratio({0: 120.0}, {0: 100.0}, in_turns=in_turns)
        assert (found.value, found.low, found.high, found.sure) == (pytest.approx(1.2), None, None, False)


def test_equal_rounds_have_an_interval_of_no_width():
    for in_turns in (True, False):
        found = compare.ratio(numbered([100.0] * 3), numbered([100.0] * 3), in_turns=in_turns)
        assert (found.low, found.high) == (1.0, 1.0) and not found.sure


def test_many_rounds_use_the_normal_distribution():
    a = numbered(100.0 + n % 2 for n in range(60))
    found = compare.ratio(a, numbered([100.0] * 60), in_turns=True)
    assert 1.003 < found.low < found.value < found.high < 1.007


def test_the_verdict_follows_the_interval(result):
    a = result("a", {1: [200, 201, 202], 2: [100, 140, 90], 4: [50, 51, 50]})
    b = result("b", {1: [100, 101, 100], 2: [100, 100, 100], 4: [100, 101, 100], 8: [1, 1, 1]})
    found = compare.compare(a, b)
    assert found.in_turns and (found.a, found.b) == ("a", "b")
    rates = [row for row in found.rows if row.figure == compare.RATE]
    assert [row.load.value for row in rates] == [1, 2, 4], "only what both have"
    assert [row.better for row in rates] == ["A", "not shown", "B"]
    assert rates[1].notes == ("A is unstable",)
    assert ("A is unstable at 2.", True) in compare.remarks(found)
    p50 = found.rows[1]
    assert (p50.figure, p50.better) == ("p50 ms", "A"), "less is better"
    assert p50.ratio.value == pytest.approx(1 / rates[0].ratio.value)


def test_what_was_not_measured_in_turns_is_told(result):
    found = compare.compare(result("a", {1: [100.0, 101.0]}, series="x"), result("b", {1: [100.0, 101.0]}, series="y"))
    words, warning = compare.remarks(found)[1]
    assert "not measured in turns" in words and warning


def test_other_settings_and_machines_are_told(result):
    a, b = result("a", {1: [100.0, 101.0]}), result("b", {1: [100.0, 101.0]})
    b = dataclasses.replace(
        b, settings={**b.settings, "batch_size": 8}, circumstances={**b.circumstances, "machine": {"cpu": "another"}}
    )
    differences = compare.compare(a, b).differences
    assert any("batch size: 1 and 8" in text for text in differences)
    assert any("another" in text for text in differences)


def test_results_without_a_common_load_cannot_be_compared(result):
    with pytest.raises(UsageError, match="cannot be compared"):
        compare.compare(result("a", {1: [1.0]}), result("b", {2: [1.0]}))


def test_the_table_has_a_cell_for_each_column(result):
    few = compare.compare(result("a", {1: [1.0]}, requests=3), result("b", {1: [2.0]}, requests=3))
    assert len(compare.cells(few.rows[0])) == len(compare.columns(few))
    assert [(row.figure, row.better) for row in few.rows] == [(compare.RATE, "one round")], "too few for a percentile"
