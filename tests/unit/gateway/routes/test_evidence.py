"""The bounds are those of the books, wrong no more often than they say, and many looks cost no more than one budget."""

from __future__ import annotations

import math

import numpy as np
import pytest

from modelport.gateway.routes.evidence import FINE, OPEN, WORSE, Tally, disagreement, errors, latency, spent, wilson


def test_wilson_gives_the_figures_of_newcombes_tables():
    """Newcombe 1998: 81 of 263 and 0 of 20, 95 % two-sided."""
    assert wilson(81, 263, 0.025) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20, 0.025) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(20, 20, 0.025)[1] == 1.0


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090), ((10, 10), (0, 20), 0.6791, 1.0)],
)
def test_the_rise_has_the_bounds_of_newcombes_method_10(one, other, low, high):
    """Table II of the paper."""
    canary, stable = (Tally(requests=total, failed=count) for count, total in (one, other))
    found = errors(canary, stable, allowed=0.01, low_error=0.025, high_error=0.025)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert found.verdict == WORSE


def test_nothing_seen_decides_nothing():
    none = Tally(requests=0, failed=0)
    found = errors(none, Tally(requests=9, failed=1), allowed=0.01, low_error=0.01, high_error=0.01)
    assert (found.value, found.low, found.high, found.verdict) == (None, None, None, OPEN)
    assert latency([], allowed=1.5, low_error=0.01, high_error=0.01).verdict == OPEN
    assert latency([9.0] * 3, allowed=1.5, low_error=0.01, high_error=0.01).verdict == OPEN
    assert disagreement(0, 0, allowed=0.1, low_error=0.01, high_error=0.01).verdict == FINE


def test_few_requests_without_an_error_are_no_proof_and_many_are():
    def of(requests):
        stable = Tally(requests=100 * requests, failed=0)
        return errors(Tally(requests=requests, failed=0), stable, allowed=0.01, low_error=0.01, high_error=0.025)

    assert of(200).verdict == OPEN and of(400).verdict == FINE


def test_the_median_of_the_ratios_is_bounded_by_the_sign_test():
    """Of ten values the second lowest and the second highest are bounds at 11/1024."""
    ratios = [1.0 + i / 10 for i in range(10)]
    found = latency(ratios, allowed=1.85, low_error=11 / 1024, high_error=11 / 1024)
    assert (found.low, found.value, found.high) == (1.1, pytest.approx(1.45), 1.8) and found.verdict == FINE
    tighter = latency(ratios, allowed=1.85, low_error=10 / 1024, high_error=10 / 1024)
    assert (tighter.low, tighter.high, tighter.verdict) == (1.0, 1.9, OPEN)
    assert latency([*ratios, 1000.0], allowed=2.0, low_error=0.01, high_error=0.01).verdict == FINE
    assert latency([1.6] * 2000, allowed=1.5, low_error=1e-9, high_error=0.01).verdict == WORSE


def test_the_budget_of_all_looks_together_is_spent_and_no_more():
    assert math.fsum(spent(0.05, look) for look in range(1, 100_000)) == pytest.approx(0.05, rel=1e-4)
    assert sum(spent(0.05, look) for look in range(1, 100_000)) < 0.05


@pytest.mark.parametrize("base", [0.0, 0.01, 0.2])
def test_bounds_of_the_rise_are_wrong_no_more_often_than_they_say(base):
    """1,000 samples for each: at 2.5 % an error of 40 of them would be one in a thousand."""
    random = np.random.default_rng(0)
    true, wrong = 0.05, {"low": 0, "high": 0}
    canaries, stables = random.binomial(300, base + true, 1000), random.binomial(3000, base, 1000)
    for canary, stable in zip(canaries.tolist(), stables.tolist(), strict=True):
        one, other = Tally(requests=300, failed=canary), Tally(requests=3000, failed=stable)
        found = errors(one, other, allowed=0.01, low_error=0.025, high_error=0.025)
        wrong["low"] += found.low > true
        wrong["high"] += found.high < true
    assert max(wrong.values()) <= 40


def test_other_answers_are_worse_only_when_that_is_shown():
    def of(rows, differing, allowed=0.1):
        return disagreement(rows, differing, allowed=allowed, low_error=0.01, high_error=0.05).verdict

    assert (of(8, 1), of(8, 4), of(100, 20), of(100, 100, None)) == (FINE, WORSE, WORSE, FINE)
