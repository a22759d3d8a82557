"""Source: a `torch.nn.Module` or a `torch.jit.ScriptModule` that lives in this process.

Everything that ends up as a torch module (Keras on its torch backend, exported programs) goes through
`TorchSource`. The caller's module is copied first: export changes neither its mode nor its device.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree

from modelport.convert.in_double import InDouble
from modelport.convert.quiet import quiet
from modelport.convert.types import Array, Arrays, Declaration
from modelport.errors import ConversionError, ExampleInputError, UsageError
from modelport.spec import TensorSpec, dtype_of


class Flat(torch.nn.Module):
    """The model with tensors in, in the declared order, and a flat tuple of tensors out.

    bfloat16 outputs become float32, which holds them exactly: numpy and the protocol's users have no bfloat16.
    """

    def __init__(self, model: torch.nn.Module, names: tuple[str, ...], keywords: bool) -> None:
        super().__init__()
        self.model = model
        self.names = names
        self.keywords = keywords

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Call the model and flatten what it gives."""
        answer = self.model(**dict(zip(self.names, tensors, strict=True))) if self.keywords else self.model(*tensors)
        return tuple(
            leaf.float() if leaf.dtype == torch.bfloat16 else leaf
            for leaf in _pytree.tree_leaves(answer)
            if isinstance(leaf, torch.Tensor)
        )


class TorchSource:
    """A torch module as a source.

    Attributes:
        flat: The module to export: takes the inputs in their declared order, gives a tuple.
        script: The model itself when it is TorchScript already, else None.
        output_names: One name for each output.
    """

    def __init__(
        self,
        flat: torch.nn.Module,
        declaration: Declaration,
        *,
        framework: str = "",
        own_output_names: tuple[str, ...] = (),
        script: torch.jit.ScriptModule | None = None,
    ) -> None:
        self.framework = framework or f"pytorch {torch.__version__.split('+')[0]}"
        self.flat = flat
        self.script = script
        self._double: torch.nn.Module | None = None
        self._declaration = declaration
        outputs = self._call(flat, declaration.example_inputs)
        self.output_names = _output_names(len(outputs), declaration, own_output_names)

    def tensors(self, inputs: Mapping[str, Array]) -> tuple[torch.Tensor, ...]:
        """The inputs as torch tensors, in the declared order."""
        return tuple(_tensor(name, inputs[name]) for name in self._declaration.example_inputs)

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """The module's answer."""
        return dict(zip(self.output_names, self._call(self.flat, inputs), strict=True))

    def run_double(self, inputs: Mapping[str, Array]) -> Arrays | None:
        """The answer with weights, inputs and arithmetic in float64; None where the module cannot run so."""
        if self._double is None:
            self._double = _as_double(self.flat)
        wide = {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in inputs.items()}
        tensors = self.tensors(wide)
        try:
            with torch.no_grad(), quiet(), InDouble():  # type: ignore[no-untyped-call]
                answers = self._double(*tensors)
        except Exception:  # it insists on a type, for one: the tolerance is a fixed one then, and the evidence says so
            return None
        return {name: answer.numpy() for name, answer in zip(self.output_names, answers, strict=True)}

    def _call(self, module: torch.nn.Module, inputs: Mapping[str, Array]) -> list[Array]:
        shapes = {name: array.shape for name, array in inputs.items()}
        tensors = self.tensors(inputs)
        try:
            with torch.no_grad():
                answers = [answer.detach().numpy() for answer in module(*tensors)]
        except Exception as exc:
            raise ExampleInputError(
                f"the model {self._declaration.name!r} does not run on the example inputs {shapes}",
                why=f"{type(exc).__name__}: {_first_line(exc)}",
                fix="check names, order, shapes and types of the example inputs against the model's forward",
            ) from exc
        if not answers:
            raise ConversionError(
                f"the model {self._declaration.name!r} gives no tensor",
                why="its forward returns nothing, or only values that are no tensors",
                fix="let forward return a tensor, or a tuple or dict of tensors",
                model=self._declaration.name,
            )
        return answers


def from_module(model: torch.nn.Module, declaration: Declaration) -> TorchSource:
    """A source from a module in memory.

    Args:
        model: Any module, in any mode, on any device; TorchScript too.
        declaration: Its inputs. Names that are all parameters of `forward` are passed by name, else in order.

    Raises:
        ExampleInputError: The module does not run on the example inputs.
        ConversionError: It cannot be copied, or gives no tensor.
    """
    own = copied(model, declaration.name)
    names = tuple(declaration.example_inputs)
    keywords = _by_keyword(own, names)
    flat = _in_inference_mode(Flat(own, names, keywords))
    keys = dict_keys(own, keywords=keywords, declaration=declaration)
    script = own if isinstance(own, torch.jit.ScriptModule) else None
    return TorchSource(flat, declaration, own_output_names=keys, script=script)


def copied(model: torch.nn.Module, name: str) -> torch.nn.Module:
    """A copy on the CPU, in inference mode; the caller's own module stays as it is.

    Raises:
        ConversionError: It cannot be copied.
    """
    try:
        with quiet():
            return _in_inference_mode(copy.deepcopy(model).cpu())
    except Exception as exc:
        raise ConversionError(
            f"the model {name!r} cannot be copied",
            why=f"{type(exc).__name__}: {_first_line(exc)}",
            fix="keep tensors that need gradients in parameters and open files or locks out of the module",
            model=name,
        ) from exc


def _in_inference_mode(module: torch.nn.Module) -> torch.nn.Module:
    """`module.eval()`; exported programs were captured in one mode and refuse the call."""
    try:
        return module.eval()
    except NotImplementedError:
        return module


def argument_names(script: torch.jit.ScriptModule) -> list[str]:
    """The names of the arguments of a script's forward."""
    forward: Any = script.forward
    return [argument.name for argument in forward.schema.arguments[1:]]


def _by_keyword(model: torch.nn.Module, names: tuple[str, ...]) -> bool:
    if isinstance(model, torch.jit.ScriptModule):
        parameters = argument_names(model)
    else:
        parameters = list(inspect.signature(model.forward).parameters)
    return set(names) <= set(parameters)


def dict_keys(own: torch.nn.Module, *, keywords: bool, declaration: Declaration) -> tuple[str, ...]:
    """The keys of the model's answer when it is a dict of tensors; they are the outputs' own names."""
    names = tuple(declaration.example_inputs)
    tensors = [_tensor(name, array) for name, array in declaration.example_inputs.items()]
    try:
        with torch.no_grad():
            answer: Any = own(**dict(zip(names, tensors, strict=True))) if keywords else own(*tensors)
    except Exception:
        return ()  # TorchSource runs it again and reports
    if isinstance(answer, Mapping) and all(isinstance(v, torch.Tensor) for v in answer.values()):
        return tuple(str(key) for key in answer)
    return ()


def _output_names(count: int, declaration: Declaration, own: tuple[str, ...]) -> tuple[str, ...]:
    given = declaration.output_names
    if given and len(given) != count:
        raise UsageError(
            f"{len(given)} output names were given for {declaration.name!r}, which has {count} outputs",
            why=f"the names were {', '.join(given)}",
            fix=f"give {count} names in the order of the model's outputs",
        )
    names = given or own or (("output",) if count == 1 else tuple(f"output_{i}" for i in range(count)))
    taken = set(names) & set(declaration.example_inputs)
    if taken or len(set(names)) != len(names):
        raise UsageError(
            f"the tensor names of {declaration.name!r} are not unique: {[*declaration.example_inputs, *names]}",
            why="inputs and outputs of one model need different names",
            fix="name the outputs with --output NAME (output_names= in Python)",
        )
    for name in names:
        TensorSpec(name=name, dtype=dtype_of("float32"), dims=())
    return names


def _tensor(name: str, array: Array) -> torch.Tensor:
    if array.dtype.kind in "OSU":
        raise ExampleInputError(
            f"input {name!r} holds strings, and a torch model takes numbers",
            why="torch has no string tensors",
            fix="put a tokenizer before the model, as an ensemble of a python model and this one",
            tensor=name,
        )
    return torch.from_numpy(np.array(array, order="C"))  # a copy: a model may work in place


def _as_double(module: torch.nn.Module) -> torch.nn.Module:
    """A copy with weights in float64; the module itself where it cannot be copied, `InDouble` does the rest."""
    try:
        with quiet():
            return copy.deepcopy(module).double()
    except Exception:
        return module


def _first_line(exc: Exception) -> str:
    """What a message says: Keras puts the reason into its second line, in bold, and scripts put it last."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", str(exc)).splitlines() if line.strip()]
    if lines and "TorchScript interpreter" in lines[0]:
        return lines[-1][:400]
    return " ".join(lines[:2])[:400] or "no message"
