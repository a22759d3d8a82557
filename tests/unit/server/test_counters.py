"""Rates come from two samples; a version that was loaded anew in between counts from nothing."""

from __future__ import annotations

import pytest

from modelport.server.counters import Counters, Rates, Sample, rates

ONE = ("m", 1)


def sample(at_s, pending=None, **counts):
    figures = {"answered": 0, "answered_ns": 0, "failed": 0, "rows": 0, "runs": 0, **counts}
    return Sample(at_s=at_s, counters={ONE: Counters(**figures)}, pending={} if pending is None else {ONE: pending})


def test_rates_are_differences_over_the_time_between():
    before = sample(10.0, answered=100, answered_ns=10**9, failed=1, rows=400, runs=50)
    after = sample(12.0, 3, answered=120, answered_ns=10**9 + 40 * 10**6, failed=2, rows=480, runs=60)
    assert rates(ONE, before, after) == Rates(
        requests_per_s=10.0, errors_per_s=0.5, pending=3, mean_batch=8.0, latency_ms=pytest.approx(2.0)
    )


def test_where_nothing_ran_there_is_no_mean():
    quiet = sample(10.0, 0, answered=5, rows=5, runs=5)
    found = rates(ONE, quiet, sample(11.0, 0, answered=5, rows=5, runs=5))
    assert found == Rates(requests_per_s=0.0, errors_per_s=0.0, pending=0, mean_batch=None, latency_ms=None)


def test_a_version_that_came_or_was_loaded_anew_counts_from_nothing():
    after = sample(12.0, answered=20, answered_ns=20 * 10**6, rows=20, runs=10)
    for before in (Sample(at_s=10.0, counters={}, pending={}), sample(10.0, answered=900, rows=900, runs=900)):
        found = rates(ONE, before, after)
        assert (found.requests_per_s, found.mean_batch, found.latency_ms) == (10.0, 2.0, pytest.approx(1.0))


def test_a_version_that_is_gone_has_no_rates():
    assert rates(ONE, sample(1.0, answered=5), Sample(at_s=2.0, counters={}, pending={})) == Rates()
