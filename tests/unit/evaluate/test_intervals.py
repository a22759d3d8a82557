"""The bootstrap: an interval that holds what it says, and pairs that do not count what both get wrong."""

from __future__ import annotations

import numpy as np
import pytest

from modelport.evaluate.intervals import interval, paired
from modelport.evaluate.metrics import mean


def test_the_interval_of_a_share_is_that_of_the_textbook():
    """A share of 0.8 in 1000 rows has a standard error of 0.01265."""
    found = interval(mean(np.arange(1000) < 800), 1000)
    assert found.value == pytest.approx(0.8)
    assert found.low == pytest.approx(0.8 - 1.96 * 0.01265, abs=0.003)
    assert found.high == pytest.approx(0.8 + 1.96 * 0.01265, abs=0.003)
    assert interval(mean(np.arange(1000) < 800), 1000) == found, "the same at each call"


def test_two_versions_that_differ_in_few_rows_are_compared_more_surely_than_each_is_known():
    before = np.arange(1000) < 800
    after = before ^ (np.arange(1000) % 100 == 0)  # ten rows change: 8 become wrong, 2 right
    drop = paired(mean(before), mean(after), 1000, lambda was, now: was - now)
    assert drop.value == pytest.approx(0.006)
    alone = interval(mean(after), 1000)
    assert drop.high - drop.low < (alone.high - alone.low) / 3
    same = paired(mean(before), mean(before), 1000, lambda was, now: was - now)
    assert (same.low, same.value, same.high) == (0, 0, 0)
