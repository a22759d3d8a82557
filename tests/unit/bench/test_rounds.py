"""What is left of a measurement that was ended early."""

from __future__ import annotations

import pytest

from modelport.bench import rounds


@pytest.mark.parametrize(("done", "kept"), [(0, 0), (3, 0), (4, 4), (7, 4), (8, 8)])
def test_only_whole_rounds_are_kept(result, done, kept):
    rows = list(result("net", {1: [1.0] * done}).rows)
    assert rounds.finished(rows, runs=4) == rows[:kept]


def test_nothing_was_measured_and_nothing_was_to_be():
    assert rounds.finished([], runs=0) == []
