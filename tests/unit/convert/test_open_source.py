"""Whatever the caller gives becomes a source and a complete declaration, or one clear error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import safetensors.torch
import torch

from modelport.convert.inputs import parse_declarations
from modelport.convert.open_source import Request, open_source
from modelport.errors import ExampleInputError, ModelportError, SourceFormatError, UnsafeSourceError, UsageError

F32 = np.float32


def request(**options: Any) -> Request:
    return Request(name="net", **options)


def x(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(F32)


@pytest.mark.parametrize("kind", ["onnx", "keras", "h5", "exported_program"])
def test_files_that_state_their_inputs_need_no_examples(samples, kind):
    """They are made up, with a batch axis, and the model runs on them."""
    source, declaration = open_source(samples[kind], request())
    assert declaration.batched
    answers = source.run(declaration.example_inputs)
    assert {len(a) for a in [*declaration.example_inputs.values(), *answers.values()]} == {4}


def test_a_torchscript_file_needs_them(samples):
    with pytest.raises(ExampleInputError) as caught:
        open_source(samples["torchscript"], request())
    assert "--samples" in caught.value.fix and "example_inputs" in caught.value.fix
    source, _ = open_source(samples["torchscript"], request(declared=parse_declarations(["input:float32:batch,6"])))
    assert source.script is not None


def test_a_path_may_be_a_text_or_a_path(samples):
    assert type(open_source(str(samples["onnx"]), request())[0]) is type(open_source(samples["onnx"], request())[0])


def test_declarations_replace_what_the_model_states():
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.Conv1D(2, 1)])
    _, own = open_source(model, request())
    assert list(own.dynamic_axes.values()) == [{1: "axis_1"}]
    _, told = open_source(model, request(declared=parse_declarations(["x:float32:batch,5,3"])))
    assert told.dynamic_axes == {} and told.example_inputs["x"].shape == (4, 5, 3)


def test_axes_that_vary_are_joined_from_model_and_caller():
    """Names of the caller's own stand for the model's inputs in their order."""
    one, two = keras.Input((None,), name="one"), keras.Input((4,), name="two")
    model = keras.Model([one, two], [keras.ops.sum(one, axis=1), two + 1.0])
    examples = {"a": x(3, 5), "b": x(3, 4)}
    _, found = open_source(model, request(example_inputs=examples, dynamic_axes={"b": {1: "width"}}))
    assert found.dynamic_axes == {"a": {1: "axis_1"}, "b": {1: "width"}}
    _, found = open_source(model, request(example_inputs={"two": x(3, 4), "one": x(3, 5)}))
    assert found.dynamic_axes == {"one": {1: "axis_1"}}


def test_without_a_batch_axis_a_free_first_size_varies():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    _, found = open_source(model, request(batched=False))
    assert not found.batched and list(found.dynamic_axes.values()) == [{0: "batch"}]


def test_strings_are_python_strings_from_here_on(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.STRING, ["n"]) for name in "tu"]
    graph = helper.make_graph([helper.make_node("Identity", ["t"], ["u"])], "g", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "t.onnx")
    _, found = open_source(tmp_path / "t.onnx", request(example_inputs={"t": np.array([b"a", b"b"])}))
    assert found.example_inputs["t"].tolist() == ["a", "b"]


@pytest.fixture
def factory(tmp_path, monkeypatch):
    (tmp_path / "factories.py").write_text("import torch\n\ndef net():\n    return torch.nn.Linear(3, 2)\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "factories", raising=False)
    return "factories:net"


def test_a_factory_with_weights(factory, tmp_path):
    safetensors.torch.save_file({"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, tmp_path / "w.safetensors")
    source, _ = open_source(factory, request(example_inputs={"x": x(2, 3)}, weights=tmp_path / "w.safetensors"))
    assert np.allclose(source.run({"x": np.ones((2, 3), F32)})["output"], 3)


@pytest.mark.parametrize(
    "thing", [None, 3, torch.nn.Linear, {"model": 1}, torch.ones(2), "torch"], ids=lambda thing: type(thing).__name__
)
def test_what_is_no_model_is_one_clear_error(thing):
    with pytest.raises(ModelportError) as caught:
        open_source(thing, request())
    assert caught.value.why and caught.value.fix


@pytest.mark.parametrize("name", ["missing.onnx", "a" * 300, "nowhere/net.keras", "", "."])
def test_a_file_that_is_not_there_is_one_clear_error(name):
    with pytest.raises(SourceFormatError):
        open_source(name, request())


@pytest.mark.parametrize("name", ["missing:net", "a" * 300 + ":b", ":", "os:nothing_like_this"])
def test_a_factory_that_is_not_there_is_one_clear_error(name):
    with pytest.raises(UsageError):
        open_source(name, request())


def test_weights_belong_to_a_factory(samples):
    """With a file or a model in memory they would be ignored; that is said."""
    weights = Path("w.safetensors")
    for given in (samples["keras"], torch.nn.Linear(3, 2)):
        with pytest.raises(UsageError, match="weights") as caught:
            open_source(given, request(example_inputs={"x": x(2, 3)}, weights=weights))
        assert "factory" in caught.value.fix


def test_a_pickle_is_refused_before_anything_loads_it(tmp_path, payload):
    torch.save(payload, tmp_path / "net.pt")
    with pytest.raises(UnsafeSourceError):
        open_source(tmp_path / "net.pt", request(example_inputs={"x": x(2, 3)}))
    assert not payload.ran()


def test_declarations_tell_the_order_of_samples(samples):
    """Arrays in a file come in whatever order they were saved."""
    examples = {"b": x(2, 3), "a": x(2, 2)}
    asked = request(declared=parse_declarations(["a:float32:batch,2", "b:float32:batch,3"]), example_inputs=examples)
    _, found = open_source(torch.nn.Bilinear(2, 3, 1), asked)
    assert list(found.example_inputs) == ["a", "b"]


def test_samples_and_declarations_must_agree(samples):
    with pytest.raises(ExampleInputError, match="declared"):
        open_source(
            samples["torchscript"],
            request(declared=parse_declarations(["input:float32:batch,6"]), example_inputs={"input": x(2, 5)}),
        )
