"""What an ONNX graph says of its tensors is compared with a model's, and each difference is told from both sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelport.convert.graph_tensors import axis_names, misfits, scalars, stated
from modelport.spec import ModelSpec, TensorSpec, dtype_of


def graph(
    *inputs: onnx.ValueInfoProto, outputs: Sequence[onnx.ValueInfoProto] = (), constants: Sequence[str] = ()
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.zeros(1, np.float32), name) for name in constants]
    return helper.make_model(helper.make_graph([], "g", list(inputs), list(outputs), tensors))


def value(name: str, sizes: Sequence[Any] | None, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, sizes)


def spec(*, batch: int = 8, dtype: str = "FP32", dims: tuple[int, ...] = (3,)) -> ModelSpec:
    x = TensorSpec(name="x", dtype=dtype_of(dtype), dims=dims)
    return ModelSpec(name="m", inputs=(x,), outputs=(), max_batch_size=batch)


@pytest.mark.parametrize(
    ("wanted", "sizes"),
    [
        (spec(), ("batch", 3)),
        (spec(), ("batch", "width")),  # the graph takes more than is asked of it
        (spec(), None),  # it does not say: running it will tell
        (spec(dims=(-1, 3)), (None, "time", 3)),
        (spec(dims=()), ("batch",)),
        (spec(batch=0), (3,)),
        (spec(batch=0, dims=()), ()),
    ],
)
def test_a_graph_that_fits_has_no_misfits(wanted, sizes):
    assert misfits(wanted, graph(value("x", sizes))) == []


@pytest.mark.parametrize(
    ("wanted", "sizes", "complaint"),
    [
        (spec(), ("batch", 4), "expected is the input x: FLOAT[batch,3]; the file has x: FLOAT[batch,4]"),
        (spec(), (1, 3), "expected is the input x: FLOAT[batch,3]; the file has x: FLOAT[1,3]"),
        (spec(), (), "expected is the input x: FLOAT[batch,3]; the file has x: FLOAT[]"),
        (spec(), ("batch", 3, 1), "expected is the input x: FLOAT[batch,3]; the file has x: FLOAT[batch,3,1]"),
        (spec(dims=(-1,)), ("n", 5), "expected is the input x: FLOAT[batch,?]; the file has x: FLOAT[n,5]"),
        (spec(batch=0), ("n", 3), "expected is the input x: FLOAT[3]; the file has x: FLOAT[n,3]"),
        (spec(dtype="INT64"), ("n", 3), "expected is the input x: INT64[batch,3]; the file has x: FLOAT[n,3]"),
    ],
)
def test_a_difference_tells_what_was_expected_and_what_is_there(wanted, sizes, complaint):
    assert misfits(wanted, graph(value("x", sizes))) == [complaint]


def test_missing_and_other_tensors_are_told_together():
    assert misfits(spec(), graph(value("a", ("n", 3)), value("b", ("n",)))) == [
        "expected are the inputs x; the file has a: FLOAT[n,3], b: FLOAT[n]"
    ]
    assert misfits(spec(), graph(value("x", ("n", 3)), outputs=[value("y", ("n",))])) == [
        "expected are the outputs ; the file has y: FLOAT[n]"
    ]


def test_a_type_that_cannot_be_served_is_a_misfit():
    sequence = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)
    (complaint,) = misfits(spec(), graph(sequence))
    assert "sequence_type" in complaint
    (complaint,) = misfits(spec(), graph(value("x", ("n", 3), TensorProto.BFLOAT16)))
    assert "BFLOAT16" in complaint


def test_inputs_with_a_value_of_their_own_need_not_be_given():
    inputs, outputs = stated(graph(value("x", ("n", 3)), value("w", (1,)), constants=["w"]))
    assert [v.name for v in inputs] == ["x"] and outputs == ()


def test_varying_axes_have_the_graphs_names_or_names_of_their_own():
    model = graph(value("a", ("n", "time")), value("b", (None, 4)))
    assert axis_names(model) == {"a": {0: "n", 1: "time"}, "b": {0: "b_0"}}


def test_tensors_without_an_axis_are_known():
    assert scalars(graph(value("a", ()), value("b", (1,)), value("c", None))) == {"a"}
