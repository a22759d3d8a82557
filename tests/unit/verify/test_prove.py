"""From a source and an artefact to evidence: shapes, rows, varying axes, NaN; a wrong artefact is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from modelport.convert.types import Declaration
from modelport.errors import (
    BatchAxisError,
    ConversionError,
    ExampleInputError,
    NotFiniteError,
    VerificationError,
)
from modelport.verify.prove import EXAMPLE_ROWS, GOLDEN_BYTES, GOLDEN_ROWS, PROOF_ROWS, describe, examine

Array = np.ndarray
F32 = np.float32


@dataclass
class Model:
    """A source, and as well an artefact, that computes its outputs with functions of numpy's."""

    of: Callable[[Mapping[str, Array]], dict[str, Any]]
    double: bool = True
    framework: str = "numpy"
    output_names: tuple[str, ...] = ()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        try:
            return {name: np.asarray(value) for name, value in self.of(inputs).items()}
        except (ValueError, IndexError) as exc:
            raise ExampleInputError("it does not run", why=str(exc), fix="none") from exc

    def run_double(self, inputs: Mapping[str, Array]) -> dict[str, Array] | None:
        wide = {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in inputs.items()}
        return self.run(wide) if self.double else None


def model(of: Callable[[Array], Any], **options: Any) -> Model:
    return Model(lambda inputs: {"y": of(inputs["x"])}, **options)


def x(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape or (4, 3)).astype(F32)


def declaration(inputs: dict[str, Array] | None = None, **options: Any) -> Declaration:
    return Declaration(name="net", example_inputs={"x": x()} if inputs is None else inputs, **options)


def proved(source: Model, artefact: Model | None = None, declared: Declaration | None = None) -> Any:
    declared = declared or declaration()
    reference = describe(source, declared)
    return examine(source, declared, reference, artefact or source, where="here", note="a note")


# --- describe --------------------------------------------------------------------------------------------------------


def test_tensors_are_described_without_the_batch_axis():
    source = Model(lambda i: {"y": i["x"] * 2, "best": i["x"].argmax(1), "text": i["t"]})
    found = describe(source, declaration({"x": x(), "t": np.array([["a"], ["b"], ["c"], ["d"]], object)}))
    assert [str(t) for t in (*found.inputs, *found.outputs)] == [
        "x: FP32[3]", "t: BYTES[1]", "y: FP32[3]", "best: INT64[]", "text: BYTES[1]",
    ]  # fmt: skip
    assert {name: t.kind for name, t in found.tolerances.items()} == {
        "y": "noise_floor",
        "best": "exact",
        "text": "exact",
    }
    assert len(found.examples["x"]) == PROOF_ROWS


def test_axes_that_vary_are_found_in_the_outputs():
    source = Model(lambda i: {"each": i["x"] * 2, "mean": i["x"].mean(1), "twice": np.tile(i["x"], (1, 2, 1))})
    found = describe(source, declaration({"x": x(4, 5, 3)}, dynamic_axes={"x": {1: "time"}}))
    assert [t.dims for t in (*found.inputs, *found.outputs)] == [(-1, 3), (-1, 3), (3,), (-1, 3)]


def test_without_a_batch_axis_shapes_are_whole():
    found = describe(model(lambda a: a.sum()), declaration(batched=False))
    assert [t.dims for t in (*found.inputs, *found.outputs)] == [(4, 3), ()]
    found = describe(model(lambda a: a * 2), declaration(batched=False, dynamic_axes={"x": {0: "rows"}}))
    assert [t.dims for t in (*found.inputs, *found.outputs)] == [(-1, 3), (-1, 3)]


def test_a_source_without_float64_has_a_fixed_tolerance():
    assert describe(model(lambda a: a, double=False), declaration()).tolerances["y"].kind == "fixed"


def test_nan_in_the_source_is_refused():
    with pytest.raises(NotFiniteError, match="the source itself") as caught:
        describe(model(lambda a: a * np.nan), declaration())
    assert caught.value.tensor == "y" and caught.value.model == "net"


def test_a_source_that_answers_differently_each_time_is_refused():
    random = np.random.default_rng(0)
    with pytest.raises(VerificationError, match="differently each time"):
        proved(model(lambda v: v + random.standard_normal(v.shape).astype(np.float32)))


def test_infinity_in_the_source_is_allowed():
    describe(model(lambda a: np.where(a > 0, np.inf, a).astype(F32)), declaration())


@pytest.mark.parametrize(
    ("of", "reason"),
    [
        (lambda a: a.sum(), "shape ()"),
        (lambda a: a.T, "shape (3, 6)"),
        (lambda a: a[:1], "shape (1, 3)"),
        (lambda a: a.reshape(4, 3), "4 given rows"),
        (lambda a: a.reshape(6, 3) if len(a) == 6 else a.reshape(4, 3), "batch of 1 fails"),
        (lambda a: np.exp(a) / np.exp(a).sum(0), "neighbours"),
        (lambda a: a - a.mean(0), "neighbours"),
        (lambda a: a * a[0], "neighbours"),
    ],
)
def test_a_source_that_has_no_batch_axis_is_found_before_anything_is_written(of, reason):
    with pytest.raises(BatchAxisError) as caught:
        describe(model(of), declaration())
    assert reason in caught.value.why and caught.value.fix and caught.value.exit_code == 21


def test_rows_that_are_all_alike_do_not_hide_it():
    """A caller may well give the same sample eight times."""
    with pytest.raises(BatchAxisError, match="no batch axis"):
        describe(model(lambda a: a - a.mean(0)), declaration({"x": np.ones((8, 3), F32)}))


def test_a_whole_data_set_as_samples_does_not_fill_the_memory():
    sizes = []

    def of(a: Array) -> Array:
        sizes.append(len(a))
        return a * 2

    found = describe(model(of), declaration({"x": x(5000, 3)}))
    assert max(sizes) == len(found.examples["x"]) == EXAMPLE_ROWS


def test_one_sample_is_enough():
    found = describe(model(lambda a: a * 2), declaration({"x": x(1, 3)}))
    assert len(found.examples["x"]) == PROOF_ROWS


def test_a_varying_axis_that_does_not_vary_is_an_error():
    source = model(lambda a: a.reshape(len(a), 15))
    with pytest.raises(ExampleInputError, match="time") as caught:
        describe(source, declaration({"x": x(4, 5, 3)}, dynamic_axes={"x": {1: "time"}}))
    assert "as numbers" in caught.value.fix


def test_an_output_that_changes_its_number_of_axes_is_refused():
    source = model(lambda a: np.squeeze(a[:, :-1], axis=1) if a.shape[1] == 2 else a[:, :-1])
    with pytest.raises(ConversionError, match="number of axes"):
        describe(source, declaration({"x": x(4, 2, 3)}, dynamic_axes={"x": {1: "time"}}))


# --- examine ---------------------------------------------------------------------------------------------------------


def test_the_evidence_tells_what_was_proved():
    evidence, golden = proved(model(lambda a: np.float32(1.1) * a))
    assert evidence.reference == "numpy" and evidence.note == "a note"
    assert evidence.batched and evidence.samples == len(golden.inputs["x"]) == PROOF_ROWS
    assert evidence.batch_proof.proved and evidence.comparisons["y"].max_abs_error == 0
    assert np.array_equal(golden.outputs["y"], np.float32(1.1) * golden.inputs["x"])


def test_the_golden_rows_are_the_first_real_samples():
    _, golden = proved(model(lambda a: a), declared=declaration({"x": x(50, 3)}))
    assert np.array_equal(golden.inputs["x"], x(50, 3)[:GOLDEN_ROWS])


@pytest.mark.parametrize(("elements", "rows"), [(600_000, 3), (3_000_000, 1)])
def test_large_samples_are_kept_to_a_few_rows_and_one_at_the_least(elements, rows):
    first = np.arange(6, dtype=F32)[:, None]
    inputs = {"x": np.broadcast_to(first, (6, elements)).copy()}
    _, golden = proved(model(lambda a: a[:, :1]), declared=declaration(inputs))
    assert len(golden.inputs["x"]) == rows == min(3, GOLDEN_BYTES // (elements * 4) or 1)


def test_without_a_batch_axis_the_example_is_the_golden_input():
    evidence, golden = proved(model(lambda a: a.sum()), declared=declaration(batched=False))
    assert evidence.batch_proof is None and evidence.samples == 1
    assert np.array_equal(golden.inputs["x"], x()) and golden.outputs["y"].shape == ()


@pytest.mark.parametrize("noise", [1e-7, 3e-8])
def test_an_artefact_that_sums_in_another_order_is_equal(noise):
    """Noise like that of float32 itself."""
    evidence, _ = proved(model(lambda a: a * 2), model(lambda a: (a * 2 + F32(noise)).astype(F32)))
    assert evidence.comparisons["y"].ok


@pytest.mark.parametrize(
    "artefact",
    [
        lambda a: a * F32(2.001),
        lambda a: (a * 2) + (np.arange(len(a)) == 3)[:, None] * F32(0.01),
        lambda a: a * -2,
        lambda a: (a * 2).astype(np.float64),
        lambda a: (a * 2)[:, :2],
        lambda a: a * 2 if len(a) == PROOF_ROWS else a * 3,
    ],
    ids=["weight", "one row", "sign", "type", "shape", "only the examples' size"],
)
def test_an_artefact_that_computes_something_else_is_found(artefact):
    with pytest.raises(VerificationError) as caught:
        proved(model(lambda a: a * 2), model(artefact))
    assert caught.value.why and caught.value.fix


def test_the_largest_error_and_the_tolerance_are_in_the_error():
    with pytest.raises(VerificationError) as caught:
        proved(model(lambda a: a * 2), model(lambda a: a * 2 + F32(0.5)))
    error = caught.value
    assert error.max_abs_error == pytest.approx(0.5) and 0 < error.tolerance < 1e-4
    assert error.model == "net" and error.tensor == "y" and "here" in error.what


def test_nan_in_the_artefact_alone_is_found():
    with pytest.raises(NotFiniteError):
        proved(model(lambda a: a), model(lambda a: np.where(a > 0, np.nan, a).astype(F32)))


def test_an_artefact_that_mixes_rows_is_found():
    """Its answers to the examples themselves may be right."""
    source = model(lambda a: a)
    mixed = model(lambda a: a if len(a) in (1, PROOF_ROWS) else np.roll(a, 1, axis=0))
    with pytest.raises(BatchAxisError) as caught:
        proved(source, mixed)
    assert "batch of 2" in caught.value.why and caught.value.max_abs_error > 0


def test_an_artefact_that_is_right_at_one_size_only_is_found():
    source = model(lambda a: a.mean(1))
    frozen = model(lambda a: a[:, :5].sum(1) / 5)
    declared = declaration({"x": x(4, 5, 3)}, dynamic_axes={"x": {1: "time"}})
    with pytest.raises(VerificationError, match=r"changed by \+1"):
        proved(source, frozen, declared)
    evidence, _ = proved(source, declared=declared)
    assert evidence.comparisons["y"].samples == 4 * PROOF_ROWS, "at the example's size and three others"


def test_near_ties_of_a_top_k_are_allowed_and_more_is_not():
    """The float64 twin orders some of the items otherwise; so may the artefact, as often."""
    rows = np.linspace(0, 1, 40, dtype=F32).reshape(10, 4)

    def ranks(a: Array, swapped: int) -> Array:
        order = np.argsort(a, axis=1)
        order[:swapped, :2] = order[:swapped, 1::-1]
        return order

    def rank_model(own: int) -> Model:
        return model(lambda a: ranks(a, 2 if a.dtype == np.float64 else own))

    declared = declaration({"x": rows}, batched=False)
    evidence, _ = proved(rank_model(0), rank_model(2), declared)
    assert evidence.tolerances["y"].mismatches == 0.1 and evidence.comparisons["y"].max_abs_error == 0.1
    with pytest.raises(VerificationError):
        proved(rank_model(0), rank_model(3), declared)
