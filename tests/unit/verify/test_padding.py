"""That inputs may be filled up is proved by asking: each row alone, and all of them as long as the longest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from modelport.convert.types import Declaration
from modelport.errors import VerificationError
from modelport.spec import TensorSpec, dtype_of
from modelport.verify.padding import prove
from modelport.verify.tolerance import Tolerance

Array = np.ndarray
TOLERANCES = {"y": Tolerance(kind="noise_floor", max_abs=1e-6)}
X = np.random.default_rng(0).integers(1, 9, (6, 12))


@dataclass
class Function:
    """A runner that computes y from x with a function of numpy's, and notes the shapes it was asked."""

    of: Callable[[Array], Array]
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.shapes.append(inputs["x"].shape)
        return {"y": np.asarray(self.of(inputs["x"]), dtype=np.float64)}


def proof(of: Callable[[Array], Array] | Function, x: Array = X, *, value: float = 0, dims: tuple[int, ...] = ()):
    declared = Declaration(
        name="net",
        example_inputs={"x": x},
        dynamic_axes={"x": {axis: f"size{axis}" for axis in range(1, x.ndim)}},
        pad={"x": value},
    )
    outputs = (TensorSpec(name="y", dtype=dtype_of("float64"), dims=dims),)
    return prove(of if isinstance(of, Function) else Function(of), declared, {"x": x}, outputs, TOLERANCES)


def mean_of_what_counts(x: Array) -> Array:
    return x.sum(axis=1) / (x != 0).sum(axis=1)


def test_a_model_that_ignores_the_value_may_be_filled_up():
    assert proof(lambda x: x.sum(axis=1)) == 0
    assert proof(mean_of_what_counts) <= 1e-6
    assert proof(lambda x: x.prod(axis=1), value=1) == 0
    assert proof(lambda x: x.sum(axis=(1, 2)), X.reshape(6, 4, 3)) == 0


@pytest.mark.parametrize(
    ("of", "value"),
    [
        (lambda x: x.mean(axis=1), 0),
        (lambda x: x[:, -1], 0),
        (mean_of_what_counts, 1),
        (lambda x: x[:, 0] + 0.1 * (x.shape[1] > 12), 0),  # only beyond the longest
    ],
)
def test_a_model_that_looks_at_what_is_filled_up_is_refused(of, value):
    with pytest.raises(VerificationError, match=f"inputs of 'net' cannot be filled up with x={value}") as caught:
        proof(of, value=value)
    assert "rows of 'y' change by up to" in caught.value.why


def test_an_output_that_would_get_another_size_is_refused():
    with pytest.raises(VerificationError) as caught:
        proof(lambda x: x, dims=(-1,))
    assert "size of output 'y' varies" in caught.value.why


def test_rows_of_several_lengths_are_asked_alone_and_together_and_beyond_the_longest():
    runner = Function(lambda x: x.sum(axis=1))
    proof(runner)
    assert [(1, size) for size in (12, 10, 8, 6, 4, 2)] == runner.shapes[:6]
    assert runner.shapes[6:] == [(6, 12), (6, 15)]
