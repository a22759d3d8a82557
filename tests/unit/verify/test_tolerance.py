"""Tolerances come from the model: from its float64 twin where there is one, else a fixed share; exact for the rest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.verify.tolerance import FALLBACK_RELATIVE, MULTIPLE, derive

F32 = np.float32


def one(own, double=None):
    return derive({"y": np.asarray(own)}, None if double is None else {"y": np.asarray(double)})["y"]


def test_the_noise_floor_is_the_largest_difference_from_float64():
    own = np.array([1.0, 100.0], F32)
    found = one(own, own.astype(np.float64) + np.array([1e-4, -3e-3]))
    assert found.kind == "noise_floor" and found.largest == 100
    assert found.noise_floor == pytest.approx(3e-3) and found.max_abs == pytest.approx(MULTIPLE * 3e-3)
    assert "0.003" in found.how and str(MULTIPLE) in found.how


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_tolerance_is_never_below_units_in_the_last_place(dtype):
    """An answer that happens to be exact leaves room for another order of sums."""
    own = np.array([0.5, -3.0], dtype)
    assert one(own, own.astype(np.float64)).max_abs == MULTIPLE * 3 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_without_a_float64_twin_a_fixed_share_is_used_and_said(dtype):
    found = one(np.array([2.0, -4.0], dtype))
    assert found.kind == "fixed" and found.max_abs == pytest.approx(4 * FALLBACK_RELATIVE[dtype])
    assert "fixed" in found.how


def test_a_twin_that_gives_no_numbers_is_no_reference():
    own = np.array([1.0, 2.0], F32)
    assert one(own, np.array([np.nan, 2.0])).kind == "fixed"
    assert one(own, np.array([np.inf, 2.0])).kind == "fixed"


def test_infinities_of_the_source_do_not_make_everything_allowed():
    own = np.array([1.0, np.inf, -np.inf], F32)
    found = one(own, own.astype(np.float64) + np.array([1e-6, 0, 0]))
    assert found.largest == 1 and 0 < found.max_abs < 1e-4
    assert np.isfinite(one(own).max_abs)


@pytest.mark.parametrize("own", [np.array([1, 2]), np.array([True]), np.array(["a"], object), np.array([], np.int64)])
def test_whole_numbers_bools_and_strings_must_be_equal(own):
    found = one(own, own)
    assert (found.kind, found.max_abs, found.mismatches) == ("exact", 0, 0)
    assert found.how == "every element equal"
    assert one(own).mismatches == 0


def test_near_ties_of_a_top_k_are_allowed_as_often_as_the_source_shows_them():
    """Where float64 orders two of eight items otherwise, the artefact may too."""
    found = one([[1, 2, 3, 4], [5, 6, 7, 8]], [[1, 3, 2, 4], [5, 6, 7, 8]])
    assert found.mismatches == 0.25 and "25.00%" in found.how


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20), st.floats(0, 1e-3))
def test_the_noise_itself_is_always_within_the_tolerance(values, noise):
    own = np.array(values, F32)
    double = own.astype(np.float64) + noise
    found = one(own, double)
    assert np.abs(double - own).max() <= found.max_abs or found.max_abs == 0 == noise
