"""TorchScript artefacts: names as arguments, control flow kept by a script and refused in a trace."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

from modelport.convert import format_torchscript
from modelport.convert.open_source import Request, open_source
from modelport.convert.source_torch import argument_names
from modelport.convert.types import Arrays, Declaration, Source
from modelport.errors import ConversionError, VerificationError

F32 = np.float32


class Net(torch.nn.Module):
    def __init__(self, function: Callable[[Any, torch.Tensor], Any] = lambda net, x: net.linear(x)) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, x)


def x(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape or (4, 3)).astype(F32)


def opened(model: Any, inputs: Arrays | None = None, **options: Any) -> tuple[Source, Declaration]:
    return open_source(model, Request(name="net", example_inputs=inputs or {"x": x()}, **options))


def written(model: Any, folder: Path, inputs: Arrays | None = None, **options: Any) -> tuple[Source, Any]:
    """The source, and the artefact loaded from its file."""
    source, declaration = opened(model, inputs, **options)
    format_torchscript.write(source, declaration, folder)
    return source, format_torchscript.load(folder, list(declaration.example_inputs), source.output_names)


@pytest.mark.parametrize(
    "function",
    [
        lambda net, t: net.linear(t),
        lambda net, t: (t, {"a": net.linear(t), "b": [t + 1]}),
        lambda net, t: torch.relu_(t) + 1,
        lambda net, t: torch.topk(t, 2),
        lambda net, t: net.linear(t).sum(1),
        lambda net, t: net.linear(t).view(t.shape[0], 2) if t.shape[0] else t,
        lambda net, t: torch.where(t > 0, t, torch.zeros_like(t))[:, t.mean(0).argsort()],
        lambda net, t: torch.nn.functional.linear(t.bfloat16(), net.linear.weight.bfloat16()),
    ],
    ids=["plain", "nested", "in place", "top k", "one number a row", "shapes", "values as indices", "bfloat16"],
)
def test_the_artefact_answers_as_the_source(tmp_path, function):
    source, runner = written(Net(function), tmp_path)
    for rows in (1, 3, 8):
        wanted, got = source.run({"x": x(rows, 3)}), runner.run({"x": x(rows, 3)})
        assert list(got) == list(wanted)
        assert all(got[n].dtype == wanted[n].dtype and np.allclose(got[n], wanted[n], atol=1e-6) for n in wanted)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float16", "float64"])
def test_element_types_pass_through(tmp_path, dtype):
    array = (x() > 0).astype(dtype)
    source, runner = written(Net(lambda net, t: ~t if t.dtype == torch.bool else t + t), tmp_path, {"x": array})
    assert np.array_equal(runner.run({"x": array})["output"], source.run({"x": array})["output"])


def test_the_arguments_of_forward_carry_the_names(tmp_path):
    """That is how Triton's backend finds the inputs."""

    class Pair(torch.nn.Module):
        def forward(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
            return user - item

    written(Pair(), tmp_path, {"buyer": x(), "film": x() + 1})
    loaded = torch.jit.load(str(tmp_path / "model.pt"))
    assert argument_names(loaded) == ["buyer", "film"]
    assert torch.equal(loaded(film=torch.ones(1, 3), buyer=torch.zeros(1, 3)), -torch.ones(1, 3))


def test_a_caller_gets_the_arrays_back_untouched(tmp_path):
    _, runner = written(Net(lambda net, t: torch.relu_(t)), tmp_path)
    given = x()
    runner.run({"x": given})
    assert np.array_equal(given, x())


@pytest.mark.parametrize(
    "parts",
    [
        [keras.layers.Conv2D(2, 3), keras.layers.MaxPooling2D(), keras.layers.Flatten(), keras.layers.Dense(2)],
        [keras.layers.Reshape((8, 8)), keras.layers.GRU(3)],
    ],
    ids=["convolution", "recurrent"],
)
def test_keras_models_are_traced_too(tmp_path, parts):
    """Keras turns shapes into Python numbers on its way, which is no decision by values."""
    source, runner = written(keras.Sequential([keras.Input((8, 8, 1)), *parts]), tmp_path, {"image": x(4, 8, 8, 1)})
    inputs = {"image": x(5, 8, 8, 1)}
    assert np.allclose(runner.run(inputs)["output"], source.run(inputs)["output"], atol=1e-6)


def test_a_program_is_traced_too(tmp_path, samples):
    source, declaration = open_source(samples["exported_program"], Request(name="net"))
    format_torchscript.write(source, declaration, tmp_path)
    runner = format_torchscript.load(tmp_path, list(declaration.example_inputs), source.output_names)
    inputs = {name: np.concatenate([a, a]) for name, a in declaration.example_inputs.items()}
    assert np.allclose(runner.run(inputs)["output"], source.run(inputs)["output"], atol=1e-6)


def scripted(module: torch.nn.Module) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(module)


def test_a_script_keeps_its_control_flow(tmp_path):
    class Branch(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if bool(x.sum() > 0):
                return x
            return -x

    _, runner = written(scripted(Branch()), tmp_path)
    for array in (np.abs(x()), -np.abs(x())):
        assert np.array_equal(runner.run({"x": array})["output"], np.abs(array))


# --- errors ----------------------------------------------------------------------------------------------------------


def fails(model: Any, folder: Path, inputs: Arrays | None = None, **options: Any) -> ConversionError:
    source, declaration = opened(model, inputs, **options)
    with pytest.raises(ConversionError) as caught:
        format_torchscript.write(source, declaration, folder)
    assert caught.value.why and caught.value.fix
    assert list(folder.iterdir()) == []
    return caught.value


@pytest.mark.parametrize(
    "function",
    [
        lambda net, t: net.linear(t) if t.sum() > 0 else t[:, :2],
        lambda net, t: net.linear(t) if t.sum().item() > 0 else t[:, :2],
        lambda net, t: net.linear(t) * int(t.sum() * 10),
        lambda net, t: net.linear(t) * t.sum(1).tolist()[0],
        lambda net, t: net.linear(t) + torch.from_numpy(t.detach().numpy()[:, :2] * 2),
    ],
    ids=["if", "item", "int", "tolist", "numpy"],
)
def test_decisions_by_values_are_refused(tmp_path, function):
    """A trace would keep what the example's values gave, without a word."""
    error = fails(Net(function), tmp_path)
    assert "decides by tensor values" in error.what and "torch.jit.script" in error.fix and error.model == "net"


def test_a_model_that_fails_to_trace_says_why(tmp_path):
    assert "not traceable" in fails(NotTraceable(), tmp_path).why


class NotTraceable(torch.nn.Module):
    """Gives up when it is traced."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_tracing():
            raise ValueError("not traceable")
        return x * 2


def test_an_onnx_file_cannot_become_torchscript(tmp_path, samples):
    source, declaration = open_source(samples["onnx"], Request(name="net"))
    with pytest.raises(ConversionError, match="TorchScript"):
        format_torchscript.write(source, declaration, tmp_path)


@pytest.mark.parametrize("name", ["a.b", "a-b", "class", "a:0"])
def test_a_name_that_cannot_be_an_argument_is_refused(tmp_path, name):
    assert name in fails(Net(), tmp_path, {name: x()}).what


def test_a_script_keeps_its_own_argument_names(tmp_path):
    error = fails(scripted(torch.nn.Linear(3, 2)), tmp_path, {"image": x()})
    assert "'image'" in error.what and "['input']" in error.fix


class Listed(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x, x + 1]


class Keyed(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"a": x, "b": x + 1}


class Short(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.bfloat16)


@pytest.mark.parametrize(("module", "word"), [(Listed, "list"), (Keyed, "dict"), (Short, "bfloat16")])
def test_a_script_whose_answer_triton_cannot_serve_is_refused(tmp_path, module, word):
    """Its pytorch backend serves a tensor or a tuple of tensors."""
    _, runner = written(scripted(module()), tmp_path)
    with pytest.raises(ConversionError, match=word):
        runner.run({"x": x()})


def test_a_number_without_an_axis_cannot_be_served(tmp_path):
    error = fails(Net(lambda net, t: net.linear(t).sum()), tmp_path, batched=False)
    assert "'output'" in error.what and "unsqueeze" in error.fix


def test_a_run_that_fails_is_a_verification_error(tmp_path):
    """Such as of a trace that has the example's row count inside."""
    _, runner = written(Net(lambda net, t: net.linear(t).view(int(t.shape[0]), 2)), tmp_path)
    with pytest.raises(VerificationError) as caught:
        runner.run({"x": x(7, 3)})
    assert "torch.jit.script" in caught.value.fix


def test_a_damaged_artefact_is_one_clear_error(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(ConversionError, match=r"model\.pt"):
        format_torchscript.load(tmp_path, ["x"], ["y"])


def test_writing_prints_nothing(tmp_path, capfd):
    written(Net(), tmp_path)
    assert capfd.readouterr() == ("", "")
