"""An ONNX file as a source: its own names and axes, its output names changed where the user wants, its answers kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelport.convert.source_onnx import OnnxSource, declared, load
from modelport.convert.types import Declaration
from modelport.errors import BatchAxisError, ConversionError, ExampleInputError, SourceFormatError, UsageError

F32 = np.float32
FLOAT, STRING, BFLOAT16 = TensorProto.FLOAT, TensorProto.STRING, TensorProto.BFLOAT16
Info = tuple[str, int, Sequence[Any]]


def graph(nodes: Sequence[onnx.NodeProto], inputs: Sequence[Info], outputs: Sequence[Info], **weights: Any) -> Any:
    values = [[helper.make_tensor_value_info(*info) for info in group] for group in (inputs, outputs)]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    return helper.make_model(
        helper.make_graph(list(nodes), "g", *values, tensors),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )


def product(rows: int | str = "n") -> onnx.ModelProto:
    """y = x @ w; z = y + y"""
    return graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Add", ["y", "y"], ["z"])],
        [("x", FLOAT, [rows, 3])],
        [("y", FLOAT, [rows, 2]), ("z", FLOAT, [rows, 2])],
        w=np.arange(6, dtype=F32).reshape(3, 2),
    )


def x(rows: int = 4) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, 3)).astype(F32)


def source(model: onnx.ModelProto, inputs: dict[str, np.ndarray] | None = None, **options: Any) -> OnnxSource:
    return OnnxSource(model, Declaration(name="net", example_inputs=inputs or {"x": x()}, **options))


def test_the_source_answers_as_the_file():
    made = source(product())
    answers = made.run({"x": x()})
    assert list(answers) == ["y", "z"]
    assert np.allclose(answers["y"], x() @ np.arange(6).reshape(3, 2))
    assert made.run_double({"x": x()}) is None
    assert made.framework == "onnx opset 18"


def test_output_names_of_the_users_choice():
    made = source(product(), output_names=("scores", "z"))
    assert list(made.run({"x": x()})) == ["scores", "z"]
    named = made.named(Declaration(name="net", example_inputs={"x": x()}))
    onnx.checker.check_model(named)
    assert [output.name for output in named.graph.output] == ["scores", "z"]
    assert [output.name for output in made.model.graph.output] == ["y", "z"], "the given model stays as it is"


@pytest.mark.parametrize(
    "names", [("a",), ("a", "b", "c"), ("a", "a"), ("x", "b"), ("w", "b"), ("z", "y")],
    ids=["too few", "too many", "twice the same", "an input's", "a weight's", "swapped"],
)  # fmt: skip
def test_output_names_that_cannot_be(names):
    with pytest.raises(UsageError) as caught:
        source(product(), output_names=names)
    assert caught.value.why and caught.value.fix


def test_what_the_graph_says_of_its_inputs():
    model = graph(
        [helper.make_node("Identity", ["t"], ["u"])],
        [("t", STRING, ["n", 2, "words"]), ("s", FLOAT, ["n"]), ("w", FLOAT, [2])],
        [("u", STRING, ["n", 2, "words"])],
        w=np.zeros(2, F32),
    )
    assert [(d.name, str(d.dtype), d.sizes) for d in declared(model)] == [
        ("t", "BYTES", ("batch", 2, "words")),
        ("s", "FP32", ("batch",)),
    ]


@pytest.mark.parametrize("shapes", [([1, 3], ["n"]), (["n", 3], [])])
def test_without_a_free_first_axis_of_every_input_there_is_no_batch_axis(shapes):
    model = graph(
        [helper.make_node("Identity", ["a"], ["c"])],
        [("a", FLOAT, shapes[0]), ("b", FLOAT, shapes[1])],
        [("c", FLOAT, shapes[0])],
    )
    assert not any(d.batched for d in declared(model))


def test_a_first_axis_that_the_file_fixes_is_no_batch_axis():
    made = source(product(1), {"x": x(1)})
    with pytest.raises(BatchAxisError, match="'x'") as caught:
        made.named(Declaration(name="net", example_inputs={"x": x(1)}))
    assert "fixes its size to 1" in caught.value.why
    made.named(Declaration(name="net", example_inputs={"x": x(1)}, batched=False))


def test_strings_go_in_and_come_out():
    model = graph([helper.make_node("Identity", ["t"], ["u"])], [("t", STRING, ["n"])], [("u", STRING, ["n"])])
    words = np.array(["a", "ü", ""], dtype=object)
    answer = source(model, {"t": words}).run({"t": words})["u"]
    assert answer.dtype == object and answer.tolist() == ["a", "ü", ""]


@pytest.mark.parametrize(
    "inputs", [{"z": x()}, {"x": x(), "z": x()}, {"x": x()[:, :2]}, {"x": x().astype(np.float64)}],
    ids=["another name", "one too many", "shape", "type"],
)  # fmt: skip
def test_inputs_that_do_not_fit_are_one_clear_error(inputs):
    with pytest.raises(ExampleInputError) as caught:
        source(product(), inputs)
    assert caught.value.why and caught.value.fix


def test_an_input_type_that_cannot_be_served_is_named():
    model = graph([helper.make_node("Identity", ["a"], ["b"])], [("a", BFLOAT16, ["n"])], [("b", BFLOAT16, ["n"])])
    with pytest.raises(ConversionError, match="BFLOAT16"):
        declared(model)


def test_an_input_that_is_no_tensor_is_named():
    model = product()
    model.graph.input.append(helper.make_tensor_sequence_value_info("q", FLOAT, None))
    with pytest.raises(ConversionError, match="sequence_type"):
        declared(model)


def test_a_graph_that_the_runtime_does_not_load_is_a_format_error():
    model = product()
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(SourceFormatError, match="ONNX Runtime"):
        source(model)


def test_a_file_is_read_with_its_external_data(tmp_path: Path):
    onnx.save(product(), str(tmp_path / "m.onnx"), save_as_external_data=True, location="m.bin", size_threshold=0)
    assert (tmp_path / "m.bin").stat().st_size
    assert list(source(load(tmp_path / "m.onnx")).run({"x": x()})) == ["y", "z"]


def test_a_graph_that_breaks_the_rules_of_onnx_is_a_format_error(tmp_path: Path):
    model = product()
    model.graph.node[1].input[0] = "nowhere"
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(SourceFormatError, match=r"m\.onnx") as caught:
        load(tmp_path / "m.onnx")
    assert caught.value.why and caught.value.fix
