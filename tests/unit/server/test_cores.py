"""Cores are divided by weight, and never more of them than there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.server import cores

WEIGHTS = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=4), st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=40
)


@given(total=st.integers(1, 256), weights=WEIGHTS)
def test_what_models_have_of_their_own_is_never_more_than_there_is(total, weights):
    parts = cores.divide(total, weights)
    assert parts.keys() == weights.keys()
    assert sum(part.own for part in parts.values()) <= total
    assert all(part.own <= part.share + 1 for part in parts.values())
    assert all(part.own == 0 for part in parts.values() if part.share < 0.999999)
    assert sum(part.share for part in parts.values()) == pytest.approx(total)


@given(total=st.integers(1, 256), weights=WEIGHTS)
def test_no_core_is_lost(total, weights):
    parts = cores.divide(total, weights)
    if all(part.share >= 1 for part in parts.values()):
        assert sum(part.own for part in parts.values()) == total


@given(own=st.integers(0, 256), instances=st.integers(1, 64), threaded=st.booleans())
def test_instances_times_threads_are_within_a_models_cores(own, instances, threaded):
    count, threads = cores.split(own, instances=instances, threaded=threaded)
    assert count >= 1 and threads >= 1
    assert count * threads <= max(1, own)


@pytest.mark.parametrize(
    ("total", "weights", "own"),
    [
        (2, dict.fromkeys("abcdefghijkl", 1), dict.fromkeys("abcdefghijkl", 0)),
        (4, {"a": 1, "b": 1}, {"a": 2, "b": 2}),
        (4, {"a": 1, "b": 1, "c": 1}, {"a": 2, "b": 1, "c": 1}),
        (8, {"a": 3, "b": 1}, {"a": 6, "b": 2}),
        (4, {"a": 90, "b": 5, "c": 5}, {"a": 4, "b": 0, "c": 0}),
        (4, {"a": 60, "b": 20, "c": 20}, {"a": 2, "b": 0, "c": 0}),
        (4, {"a": 0, "b": 0}, {"a": 2, "b": 2}),
        (2, {"a": 1, "b": 0}, {"a": 2, "b": 0}),
    ],
)
def test_whole_cores_go_to_those_with_a_share_of_one_or_more(total, weights, own):
    assert {model: part.own for model, part in cores.divide(total, weights).items()} == own


@pytest.mark.parametrize(
    ("own", "instances", "threaded", "found"),
    [
        (0, 2, True, (1, 1)),
        (1, 4, True, (1, 1)),
        (4, 1, True, (1, 4)),
        (4, 2, True, (2, 2)),
        (3, 2, True, (1, 3)),
        (4, 9, True, (4, 1)),
        (4, 1, False, (1, 1)),
        (2, 3, False, (2, 1)),
    ],
)
def test_instances_stay_where_the_cores_divide_evenly(own, instances, threaded, found):
    assert cores.split(own, instances=instances, threaded=threaded) == found
