"""Answers are compared output by output: shape, type, numbers, NaN, the best class; the worst is what is reported."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.errors import NotFiniteError, VerificationError
from modelport.verify.compare import Comparison, compare, require_finite, require_ok
from modelport.verify.tolerance import Tolerance

F32 = np.float32


def floats(allowed: float) -> Tolerance:
    return Tolerance(kind="noise_floor", max_abs=allowed)


def exact(mismatches: float = 0.0) -> Tolerance:
    return Tolerance(kind="exact", max_abs=0.0, mismatches=mismatches)


def one(want, got, tolerance=None, *, batched: bool = True) -> Comparison:
    tolerance = tolerance or floats(0.01)
    return compare({"y": np.asarray(want)}, {"y": np.asarray(got)}, {"y": tolerance}, batched=batched)["y"]


def test_the_largest_difference_is_found():
    found = one(np.zeros((3, 1), F32), np.array([[0.001], [-0.005], [0]], F32))
    assert found.max_abs_error == pytest.approx(0.005) and found.samples == 3 and found.ok
    assert not one(np.zeros((3, 1), F32), np.full((3, 1), 0.02, F32)).ok


@given(st.integers(1, 5), st.integers(1, 5), st.floats(0, 10), st.floats(0, 10))
def test_an_error_is_ok_exactly_when_it_is_allowed(rows, columns, error, allowed):
    want = np.zeros((rows, columns))
    got = want.copy()
    got[rows // 2, columns // 2] = error
    found = one(want, got, floats(allowed))
    assert found.max_abs_error == error and (found.max_abs_error <= found.allowed) == (error <= allowed)


@pytest.mark.parametrize(
    "got",
    [
        np.zeros((3, 2), F32),
        np.zeros((2, 3), F32),
        np.zeros((3, 1, 2), F32),
        np.zeros((3, 3)),
        np.zeros((3, 3), np.int32),
    ],
)
def test_another_shape_or_type_is_an_error_that_shows_both(got):
    with pytest.raises(VerificationError) as caught:
        one(np.zeros((3, 3), F32), got)
    assert f"{got.dtype}{list(got.shape)}" in caught.value.what and "float32[3, 3]" in caught.value.what
    assert caught.value.tensor == "y"


def test_a_missing_output_is_an_error():
    with pytest.raises(VerificationError, match="'y' is missing"):
        compare({"y": np.zeros(2)}, {"z": np.zeros(2)}, {"y": floats(1)}, batched=True)


@pytest.mark.parametrize(
    ("want", "got"),
    [
        ([1, 2], [1, np.nan]),
        ([1, 2], [1, np.inf]),
        ([1, np.inf], [1, -np.inf]),
        ([1, np.inf], [1, 2]),
        ([1, np.inf], [np.inf, 1]),
    ],
)
def test_nan_and_infinity_where_the_source_has_none_are_errors(want, got):
    with pytest.raises(NotFiniteError) as caught:
        one(np.array([want], F32), np.array([got], F32), floats(math.inf))
    assert caught.value.exit_code == 22 and caught.value.tensor == "y"


def test_infinity_where_the_source_has_it_is_right():
    row = np.array([[1, np.inf, -np.inf]], F32)
    assert one(row, row + np.array([[0.001, 0, 0]], F32)).ok


def test_exact_outputs_count_the_elements_that_differ():
    found = one([[1, 2], [3, 4]], [[1, 2], [3, 5]], exact())
    assert found.max_abs_error == 0.25 and not found.ok
    assert one([[1, 2], [3, 4]], [[2, 1], [3, 4]], exact(0.5)).ok, "as many near ties as the source has"
    assert not one([[1, 2], [3, 4]], [[2, 1], [4, 3]], exact(0.5)).ok


def test_strings_and_bools_are_compared_for_equality():
    words = np.array([["a"], ["ü"]], object)
    assert one(words, words.copy(), exact()).ok
    assert one(words, np.array([["a"], ["u"]], object), exact()).max_abs_error == 0.5
    assert not one(np.array([[True]]), np.array([[False]]), exact()).ok


# --- the best class --------------------------------------------------------------------------------------------------


def test_the_best_class_must_stay_the_best_where_it_is_clear():
    want = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.6]], F32)
    got = np.array([[0.4, 0.6], [0.2, 0.8], [0.6, 0.5]], F32)
    found = one(want, got, floats(0.1))
    assert found.argmax_agreement == 0.5 and not found.ok, "of the two rows that are clear, one changed"


def test_near_ties_may_go_either_way():
    want, got = np.array([[0.5, 0.51], [0.9, 0.1]], F32), np.array([[0.51, 0.5], [0.9, 0.1]], F32)
    found = one(want, got, floats(0.02))
    assert found.argmax_agreement == 1.0 and found.ok


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 2, 2), (0, 4)])
def test_only_vectors_of_scores_have_a_best_class(shape):
    assert one(np.zeros(shape, F32), np.zeros(shape, F32)).argmax_agreement is None


def test_all_ties_say_nothing_about_the_best_class():
    assert one(np.zeros((3, 4), F32), np.zeros((3, 4), F32)).argmax_agreement is None


def test_without_a_batch_axis_the_whole_is_one_sample():
    found = one(np.eye(3), np.eye(3), batched=False)
    assert found.samples == 1 and found.argmax_agreement is None


# --- reports ---------------------------------------------------------------------------------------------------------


def comparison(name: str, error: float, allowed: float, agreement: float | None = None) -> Comparison:
    return Comparison(tensor=name, samples=1, max_abs_error=error, allowed=allowed, argmax_agreement=agreement)


def test_the_output_that_is_worst_for_its_tolerance_is_reported():
    found = {c.tensor: c for c in (comparison("a", 5, 4), comparison("b", 0.5, 0.001), comparison("c", 1, 2))}
    with pytest.raises(VerificationError) as caught:
        require_ok(found, model="net", where="model.onnx")
    error = caught.value
    assert (error.model, error.tensor, error.max_abs_error, error.tolerance) == ("net", "b", 0.5, 0.001)
    for word in ("'net'", "'b'", "0.5", "0.001", "model.onnx"):
        assert word in error.what
    assert error.why and error.fix and error.exit_code == 20


def test_classes_that_disagree_are_reported_with_their_share():
    with pytest.raises(VerificationError, match=r"classes agree in 75\.0% of rows"):
        require_ok({"y": comparison("y", 0.1, 1, 0.75)}, model="net", where="here")


def test_nothing_is_raised_when_all_is_well():
    require_ok({"y": comparison("y", 0.1, 1, 1.0), "z": comparison("z", 0, 0)}, model="net", where="here")


def test_nan_of_the_source_is_counted():
    answers = {"n": np.array([1, 2]), "y": np.array([[np.nan, 1], [np.nan, np.inf]], F32)}
    with pytest.raises(NotFiniteError, match=r"'y' of 'net' holds NaN: 2 of 4 \(the source\)"):
        require_finite(answers, model="net", where="the source")
    require_finite({"y": np.array([np.inf])}, model="net", where="the source")
