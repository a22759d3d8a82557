"""A batch axis is proved by asking: each row alone, in batches of 2 and 3, in another order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from modelport.errors import VerificationError
from modelport.verify.batch_axis import BatchProof, prove
from modelport.verify.tolerance import Tolerance

Array = np.ndarray
TOLERANCES = {"y": Tolerance(kind="noise_floor", max_abs=1e-6)}


@dataclass
class Function:
    """A runner that computes y from x with a function of numpy's, and notes the batch sizes it was asked."""

    of: Callable[[Array], Array]
    sizes: list[int] = field(default_factory=list)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.sizes.append(len(inputs["x"]))
        return {"y": np.asarray(self.of(inputs["x"]))}


def rows(count: int = 6) -> Array:
    return np.random.default_rng(0).standard_normal((count, 3))


def proof(of: Callable[[Array], Array], x: Array | None = None) -> BatchProof:
    return prove(Function(of), {"x": rows() if x is None else x}, TOLERANCES)


@pytest.mark.parametrize(
    "of",
    [
        lambda x: x * 2,
        lambda x: x.sum(axis=1),
        lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True),
        lambda x: np.zeros((len(x), 2, 2)),
    ],
)
def test_a_function_of_each_row_has_a_batch_axis(of):
    found = proof(of)
    assert found.proved and not found.reason and found.max_abs_error == 0
    assert set(found.sizes) == {1, 2, 3, 6}


def test_every_size_from_one_to_three_and_all_rows_are_asked():
    runner = Function(lambda x: x)
    prove(runner, {"x": rows()}, TOLERANCES)
    assert sorted(set(runner.sizes)) == [1, 2, 3, 6]


@pytest.mark.parametrize(
    ("of", "reason"),
    [
        (lambda x: np.exp(x) / np.exp(x).sum(axis=0), "change with their neighbours"),
        (lambda x: x - x.mean(axis=0), "change with their neighbours"),
        (lambda x: (x - x.mean()) / (x.std() + 1e-5), "change with their neighbours"),
        (lambda x: np.cumsum(x, axis=0), "change with their neighbours"),
        (lambda x: x[::-1], "change with their neighbours"),
        (lambda x: x + np.arange(len(x))[:, None], "change with their neighbours"),
        (lambda x: np.sort(x, axis=0), "change with their neighbours"),
        (lambda x: x * (1 if len(x) < 6 else 2), "change with their neighbours"),
        (lambda x: x.sum(), "has shape ()"),
        (lambda x: x.T, "has shape (3, 1)"),
        (lambda x: np.concatenate([x, x]), "has shape (2, 3)"),
        (lambda x: x if len(x) == 1 else x[:1], "for 2 rows"),
        (lambda x: x if len(x) == 1 else np.zeros((len(x), 4)), "fails"),
    ],
)
def test_a_function_that_mixes_rows_has_none(of, reason):
    found = proof(of)
    assert not found.proved and reason in found.reason


def test_the_largest_error_is_kept():
    found = proof(lambda x: x + len(x) - 1)
    assert found.max_abs_error == pytest.approx(1) and "'y'" in found.reason


@pytest.mark.parametrize(
    ("bad_size", "reason"), [(1, "does not run on one row"), (2, "a batch of 2 fails"), (3, "of 3 fails")]
)
def test_a_size_that_does_not_run_is_the_reason(bad_size, reason):
    def of(x: Array) -> Array:
        if len(x) == bad_size:
            raise VerificationError("no such size")
        return x

    found = proof(of)
    assert not found.proved and reason in found.reason and "no such size" in found.reason


@pytest.mark.parametrize("x", [np.ones((6, 3)), np.array([["a"]] * 6, object)], ids=["numbers", "strings"])
def test_rows_that_are_all_alike_prove_nothing(x):
    """Equal rows hide that a model subtracts the mean of its batch."""
    found = proof(lambda x: x, x)
    assert not found.proved and "all alike" in found.reason


def test_differences_within_the_tolerance_are_not_mixing():
    found = proof(lambda x: x + 1e-7 * len(x))
    assert found.proved and 0 < found.max_abs_error < 1e-6
