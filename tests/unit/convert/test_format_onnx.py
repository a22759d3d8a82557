"""ONNX artefacts: the user's names, named axes, versions that both servers read; errors for what cannot be traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import torch

from modelport.convert import format_onnx
from modelport.convert.open_source import Request, open_source
from modelport.convert.types import Declaration, Source
from modelport.errors import BatchAxisError, ConversionError, ModelportError, VerificationError

F32 = np.float32


class Net(torch.nn.Module):
    def __init__(self, function: Callable[[Any, torch.Tensor], Any] = lambda net, x: net.linear(x)) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, x)


class Everything(torch.nn.Module):
    """Several inputs of several types, one of them varying beside the batch; several outputs, nested."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(10, 4)
        self.linear = torch.nn.Linear(4, 2)

    def forward(self, tokens: torch.Tensor, keep: torch.Tensor, scale: torch.Tensor) -> Any:
        words = self.table(tokens) * keep.unsqueeze(-1)
        return {"words": words, "more": (self.linear(words.mean(1)) * scale.float(), {"longest": tokens.max(1).values})}


def x(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(F32)


def opened(model: Any, inputs: dict[str, np.ndarray] | None = None, **options: Any) -> tuple[Source, Declaration]:
    return open_source(model, Request(name="net", example_inputs=inputs or {"x": x(4, 3)}, **options))


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """(module, folder with its artefact)"""
    folder = tmp_path_factory.mktemp("everything")
    inputs = {
        "ids": np.arange(15).reshape(3, 5) % 10,
        "mask": np.ones((3, 5), bool),
        "scale": x(3, 1).astype("float16"),
    }
    source, declaration = opened(
        Everything().eval(),
        inputs,
        output_names=("embedded", "scores", "longest"),
        dynamic_axes={"ids": {1: "time"}, "mask": {1: "time"}},
    )
    format_onnx.write(source, declaration, folder)
    return source, folder


def test_the_artefact_has_the_users_names_types_and_named_axes(everything):
    graph = onnx.load(everything[1] / "model.onnx").graph

    def shape(value: onnx.ValueInfoProto) -> list[Any]:
        return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]

    assert {v.name: (v.type.tensor_type.elem_type, shape(v)) for v in graph.input} == {
        "ids": (7, ["batch", "time"]),
        "mask": (9, ["batch", "time"]),
        "scale": (10, ["batch", 1]),
    }
    assert {v.name: (v.type.tensor_type.elem_type, shape(v)) for v in graph.output} == {
        "embedded": (1, ["batch", "time", 4]),
        "scores": (1, ["batch", 2]),
        "longest": (7, ["batch"]),
    }


@pytest.mark.parametrize(("rows", "time"), [(1, 5), (2, 1), (7, 11)])
def test_the_artefact_answers_as_the_source_at_any_size(everything, rows, time):
    source, folder = everything
    ids = np.random.default_rng(1).integers(0, 10, (rows, time))
    inputs = {"ids": ids, "mask": ids > 2, "scale": np.ones((rows, 1), np.float16)}
    runner = format_onnx.load(folder, list(inputs), ["embedded", "scores", "longest"])
    wanted, got = source.run(inputs), runner.run(inputs)
    for name in wanted:
        assert got[name].dtype == wanted[name].dtype and np.allclose(got[name], wanted[name], atol=1e-6)


def test_the_artefact_is_one_that_both_servers_read(everything):
    """ONNX Runtime 1.19 (Triton 24.10) reads IR up to 10 and opset up to 21."""
    model = onnx.load(everything[1] / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 10
    assert [o.version for o in model.opset_import if o.domain == ""] == [20]
    assert {o.domain for o in model.opset_import} == {""}, "no operators of torch's own"


def test_the_artefact_tells_nothing_of_the_machine(everything, root):
    content = (everything[1] / "model.onnx").read_bytes()
    assert str(root).encode() not in content and b"site-packages" not in content and b".py" not in content


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (lambda net, t: torch.relu_(t) + 1, 1),
        (lambda net, t: (lambda y: (y, y))(net.linear(t)), 2),
        (lambda net, t: (t, net.linear(t)), 2),
    ],
    ids=["works in place", "one tensor twice", "an input as it is"],
)
def test_odd_ways_to_answer_are_written_right(tmp_path, function, count):
    source, declaration = opened(Net(function))
    format_onnx.write(source, declaration, tmp_path)
    runner = format_onnx.load(tmp_path, ["x"], source.output_names)
    wanted, got = source.run({"x": x(5, 3)}), runner.run({"x": x(5, 3)})
    assert len(got) == count and all(np.allclose(got[name], wanted[name], atol=1e-6) for name in wanted)


def test_an_axis_of_size_one_in_the_example_may_vary_too(tmp_path):
    source, declaration = opened(
        Net(lambda net, t: net.linear(t).mean(1)), {"x": x(1, 1, 3)}, dynamic_axes={"x": {1: "time"}}
    )
    format_onnx.write(source, declaration, tmp_path)
    assert format_onnx.load(tmp_path, ["x"], ["output"]).run({"x": x(4, 6, 3)})["output"].shape == (4, 2)


def test_an_input_that_the_model_ignores_stays_an_input(tmp_path):
    class First(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a * 2

    source, declaration = opened(First(), {"a": x(4, 3), "b": x(4, 2)})
    format_onnx.write(source, declaration, tmp_path)
    assert [v.name for v in onnx.load(tmp_path / "model.onnx").graph.input] == ["a", "b"]


# --- errors ----------------------------------------------------------------------------------------------------------


def fails(model: Any, folder: Any, inputs: dict[str, np.ndarray] | None = None, **options: Any) -> ModelportError:
    source, declaration = opened(model, inputs, **options)
    with pytest.raises(ModelportError) as caught:
        format_onnx.write(source, declaration, folder)
    assert caught.value.why and caught.value.fix and "Traceback" not in str(caught.value)
    assert list(folder.iterdir()) == []
    return caught.value


@pytest.mark.parametrize(
    "function",
    [
        lambda net, t: net.linear(t) if t.sum().item() > 0 else t[:, :2],
        lambda net, t: sum([net.linear(t)] * int(t.abs().sum())),
    ],
    ids=["item", "loop"],
)
def test_control_flow_that_depends_on_values_is_refused(tmp_path, function):
    error = fails(Net(function), tmp_path)
    assert isinstance(error, ConversionError) and error.model == "net" and "control flow" in error.fix


def gives_up(net: Net, t: torch.Tensor) -> torch.Tensor:
    if torch.compiler.is_exporting():
        raise ValueError("not today")
    return net.linear(t)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (gives_up, "ValueError: not today"),
        (lambda net, t: t.sort(stable=True).values, "aten.sort"),
        (lambda net, t: net.linear(t) if t.sum() > 0 else t[:, :2], "data-dependent expression"),
    ],
    ids=["raises", "no such operator in ONNX", "data-dependent"],
)
def test_a_model_that_cannot_be_traced_says_why(tmp_path, function, reason):
    """The model's or torch's own reason, not that of the wrapper around it."""
    error = fails(Net(function), tmp_path)
    assert isinstance(error, ConversionError) and reason in error.why and "\n" not in error.why


def test_a_first_axis_that_the_model_fixes_is_no_batch_axis(tmp_path):
    error = fails(Net(lambda net, t: net.linear(t) + torch.zeros(2, 1)), tmp_path, {"x": x(2, 3)})
    assert isinstance(error, BatchAxisError)


def test_an_axis_that_the_model_fixes_cannot_vary(tmp_path):
    """Keras's recurrent layers unroll over the time axis."""
    model = keras.Sequential([keras.Input((2, 3)), keras.layers.GRU(1)])
    error = fails(model, tmp_path, {"steps": x(2, 2, 3)}, dynamic_axes={"steps": {1: "time"}})
    assert isinstance(error, ConversionError) and "'time'" in error.what and "'steps'" in error.what


def test_a_script_cannot_become_onnx_and_says_what_can(tmp_path):
    error = fails(torch.jit.script(torch.nn.Linear(3, 2)), tmp_path, {"input": x(4, 3)})
    assert isinstance(error, ConversionError) and "torchscript" in error.fix


def test_bfloat16_inside_is_refused_when_the_runtime_cannot_run_it(tmp_path):
    source, declaration = opened(
        Net(lambda net, t: torch.nn.functional.linear(t.bfloat16(), net.linear.weight.bfloat16()))
    )
    format_onnx.write(source, declaration, tmp_path)
    with pytest.raises(ConversionError) as caught:
        format_onnx.load(tmp_path, ["x"], ["output"])
    assert "bfloat16" in caught.value.fix and "torchscript" in caught.value.fix


def test_a_run_that_fails_is_a_verification_error(everything):
    runner = format_onnx.load(everything[1], ["ids", "mask", "scale"], ["scores"])
    with pytest.raises(VerificationError, match="ids"):
        runner.run(
            {"ids": np.zeros((2, 3), np.int64), "mask": np.ones((2, 4), bool), "scale": np.ones((2, 1), "float16")}
        )


def test_writing_prints_nothing(tmp_path, capfd):
    source, declaration = opened(Net())
    format_onnx.write(source, declaration, tmp_path)
    assert capfd.readouterr() == ("", "")
