"""A torch module as a source: inputs by name or in order, outputs flattened and named, the module left as it is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from modelport.convert.source_torch import TorchSource, from_module
from modelport.convert.types import Declaration
from modelport.errors import ConversionError, ExampleInputError, InvalidNameError, UsageError

F32 = np.float32


class Net(torch.nn.Module):
    """A linear layer, and a function of it and the input."""

    def __init__(self, function: Callable[[Any, torch.Tensor], Any] = lambda net, x: net.linear(x)) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, x)


class Pair(torch.nn.Module):
    """Two inputs of one shape that are not treated alike."""

    def forward(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        return user * 10 + item


def x(rows: int = 4, dtype: Any = F32) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, 3)).astype(dtype)


def source(model: torch.nn.Module, inputs: dict[str, np.ndarray] | None = None, **options: Any) -> TorchSource:
    return from_module(model, Declaration(name="net", example_inputs=inputs or {"x": x()}, **options))


def test_the_source_answers_as_the_module_does():
    net = Net()
    answer = source(net).run({"x": x()})
    assert list(answer) == ["output"]
    assert np.array_equal(answer["output"], net(torch.from_numpy(x())).detach().numpy())


def test_names_that_are_arguments_of_forward_are_passed_by_name():
    """Whatever their order."""
    one, two = np.full((2, 1), 1, F32), np.full((2, 1), 2, F32)
    assert source(Pair(), {"item": two, "user": one}).run({"item": two, "user": one})["output"].tolist() == [[12], [12]]


def test_names_of_the_users_own_are_passed_in_order():
    one, two = np.full((2, 1), 1, F32), np.full((2, 1), 2, F32)
    assert source(Pair(), {"a": one, "b": two}).run({"b": two, "a": one})["output"].tolist() == [[12], [12]]


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda net, t: net.linear(t), ["output"]),
        (lambda net, t: (net.linear(t), t), ["output_0", "output_1"]),
        (lambda net, t: [t, t + 1, t + 2], ["output_0", "output_1", "output_2"]),
        (lambda net, t: {"logits": t, "scores": t + 1}, ["logits", "scores"]),
        (lambda net, t: {"only": t}, ["only"]),
        (lambda net, t: {"a": (t, {"b": t + 1}), "c": [t + 2]}, ["output_0", "output_1", "output_2"]),
        (lambda net, t: (t, None, 5, t + 1), ["output_0", "output_1"]),
        (lambda net, t: torch.topk(t, 2), ["output_0", "output_1"]),
    ],
)
def test_outputs_are_flattened_and_named(function, names):
    """Tensors, tuples, lists, dicts and what is nested in them; a plain dict's keys are the names."""
    found = source(Net(function)).run({"x": x()})
    assert list(found) == names


def test_nested_outputs_come_in_their_order():
    found = source(Net(lambda net, t: {"z": (t, {"b": t + 1}), "c": [t + 2]})).run({"x": x()})
    for step, answer in enumerate(found.values()):
        assert np.allclose(answer, x() + step)


def test_the_users_output_names_win():
    found = source(Net(lambda net, t: {"a": t, "b": t + 1}), output_names=("first", "second")).run({"x": x()})
    assert list(found) == ["first", "second"]


@pytest.mark.parametrize(
    ("names", "error"),
    [
        (("a",), UsageError),
        (("a", "b", "c"), UsageError),
        (("a", "a"), UsageError),
        (("x", "b"), UsageError),
        (("a b", "c"), InvalidNameError),
    ],
)
def test_output_names_that_cannot_be(names, error):
    """Another number than there are outputs, twice the same, an input's, or against the rule."""
    with pytest.raises(error) as caught:
        source(Net(lambda net, t: (t, t + 1)), output_names=names)
    assert caught.value.why and caught.value.fix


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float16", "float32", "float64"])
def test_element_types_pass_through(dtype):
    array = (x() > 0).astype(dtype)
    found = source(Net(lambda net, t: t), {"x": array}).run({"x": array})["output"]
    assert found.dtype == array.dtype and np.array_equal(found, array)


def test_bfloat16_stays_inside():
    """numpy has no such type; an output of it becomes float32, which holds it exactly."""
    net = Net(lambda net, t: torch.nn.functional.linear(t.bfloat16(), net.linear.weight.bfloat16()))
    answer = source(net).run({"x": x()})["output"]
    assert answer.dtype == F32
    assert np.array_equal(answer, net(torch.from_numpy(x())).float().detach().numpy())


def test_the_callers_module_and_arrays_stay_as_they_are():
    """Mode, gradients, weights and device; the arrays too when the model works in place."""
    net = torch.nn.Sequential(torch.nn.ReLU(inplace=True), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(3)).train()
    net[2].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    flags = [module.training for module in net.modules()]
    given = x()
    made = source(net, {"x": given})
    made.run({"x": given})
    made.run_double({"x": given})
    assert [module.training for module in net.modules()] == flags == [True, True, True, False]
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert np.array_equal(given, x())


def test_the_copy_is_in_inference_mode():
    """Else dropout would make every answer another one."""
    made = source(torch.nn.Dropout(0.5))
    assert np.array_equal(made.run({"x": x()})["output"], x())


def test_the_double_answer_is_computed_in_float64():
    net = Net()
    wide = source(net).run_double({"x": x()})["output"]
    exact = x().astype(np.float64) @ net.linear.weight.detach().double().numpy().T + net.linear.bias.detach().numpy()
    assert wide.dtype == np.float64 and np.abs(wide - exact).max() < 1e-15


def test_whole_numbers_stay_whole_in_the_double_answer():
    class Lookup(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(5, 2)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.table(ids)

    ids = np.array([[0, 4]])
    assert source(Lookup(), {"ids": ids}).run_double({"ids": ids})["output"].dtype == np.float64


@pytest.mark.parametrize(
    "function",
    [
        lambda net, t: net.linear(t.float()),
        lambda net, t: net.linear(t.to(torch.float32) / torch.full((3,), 255.0)),
        lambda net, t: torch.zeros(len(t), 2, dtype=torch.float32).add_(net.linear(t.half().float())),
    ],
)
def test_types_written_into_the_forward_do_not_shorten_the_double_answer(function):
    """Preprocessing often casts; the reference must not."""
    made = source(Net(function))
    wide = made.run_double({"x": x()})["output"]
    assert not np.array_equal(wide, wide.astype(F32)), "it has more digits than float32 holds"


def test_a_torch_lstm_has_a_double_answer():
    class Last(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = torch.nn.LSTM(3, 4, batch_first=True)

        def forward(self, steps: torch.Tensor) -> torch.Tensor:
            return self.cells(steps)[0][:, -1]

    steps = np.stack([x(), x()], axis=1)
    made = source(Last(), {"steps": steps})
    noise = np.abs(made.run_double({"steps": steps})["output"] - made.run({"steps": steps})["output"]).max()
    assert 0 < noise < 1e-6


def only_float32(net: Net, t: torch.Tensor) -> torch.Tensor:
    assert t.dtype == torch.float32
    return net.linear(t)


@pytest.mark.parametrize("function", [only_float32, lambda net, t: net.linear(t) * t.view(torch.int32).sum()])
def test_a_model_that_does_not_run_in_float64_has_no_double_answer(function):
    """It is no error: the tolerance is a fixed one then."""
    made = source(Net(function))
    assert made.run_double({"x": x()}) is None
    assert "output" in made.run({"x": x()})


def test_a_script_is_a_source_and_keeps_its_control_flow():
    class Branch(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if bool(x.sum() > 0):
                return x
            return -x

    made = source(torch.jit.script(Branch()))
    assert isinstance(made.script, torch.jit.ScriptModule)
    assert np.array_equal(made.run({"x": -np.abs(x())})["output"], np.abs(x()))


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inputs",
    [{"x": x()[:, :2]}, {"x": x().astype(np.float64)}, {"x": x(), "y": x()}, {"wrong": x(), "names": x()}],
    ids=["shape", "type", "one too many", "names"],
)
def test_inputs_that_do_not_fit_say_so_with_the_modules_own_reason(inputs):
    with pytest.raises(ExampleInputError) as caught:
        source(Net(), inputs)
    assert "'net'" in caught.value.what and caught.value.why and "forward" in caught.value.fix
    assert "Traceback" not in str(caught.value)


def test_strings_for_a_torch_model_are_one_clear_error():
    with pytest.raises(ExampleInputError, match="'x' holds strings") as caught:
        source(Net(), {"x": np.array([["a"]], dtype=object)})
    assert "tokenizer" in caught.value.fix and caught.value.tensor == "x"


@pytest.mark.parametrize("answer", [None, 3, (), {"a": None}])
def test_a_model_without_a_tensor_among_its_outputs_is_refused(answer):
    with pytest.raises(ConversionError, match="gives no tensor"):
        source(Net(lambda net, t: answer))


def test_an_output_that_numpy_cannot_hold_is_one_clear_error():
    with pytest.raises(ExampleInputError, match="does not run"):
        source(Net(lambda net, t: t.to_sparse()))


def test_a_module_that_cannot_be_copied_is_one_clear_error():
    net = Net()
    net.lock = threading.Lock()
    with pytest.raises(ConversionError, match="cannot be copied") as caught:
        source(net)
    assert "lock" in caught.value.fix and caught.value.model == "net"
