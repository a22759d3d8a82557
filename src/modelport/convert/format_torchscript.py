"""Format `torchscript`: traced or scripted by torch, served by Triton's `pytorch` backend.

TorchScript is deprecated upstream, but it is what that backend fully serves. The arguments of `forward` carry the
tensor names, which is how the backend finds them; outputs are given in the order of `config.pbtxt`.
"""

from __future__ import annotations

import inspect
import io
import keyword
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    FakeTensorMode,
)

from modelport.convert.quiet import quiet
from modelport.convert.source_torch import TorchSource, argument_names
from modelport.convert.types import Array, Arrays, Declaration, Source, take
from modelport.errors import ConversionError, VerificationError

BACKEND = "pytorch"
FILENAME = "model.pt"


def write(source: Source, declaration: Declaration, folder: Path) -> None:
    """Write `model.pt`: the script itself when the source is TorchScript, else a trace of the module.

    Raises:
        ConversionError: The source is no torch model, cannot be traced, or its flow depends on tensor values
            (a trace would silently keep one branch), or Triton cannot serve what it gives.
    """
    if not isinstance(source, TorchSource):
        raise ConversionError(
            f"{declaration.name!r} cannot be written as TorchScript from {source.framework}",
            why="only torch and Keras models are torch modules",
            fix="use --format onnx",
            model=declaration.name,
        )
    if not declaration.batched:
        _refuse_scalars(source, declaration)
    script = _renamed(source.script, declaration) if source.script is not None else _trace(source, declaration)
    content = io.BytesIO()
    torch.jit.save(script, content)  # by itself it would report a full disk as a RuntimeError
    (folder / FILENAME).write_bytes(content.getbuffer())


def load(folder: Path, inputs: Sequence[str], outputs: Sequence[str], *, filename: str = FILENAME) -> TorchScriptRunner:
    """Load a TorchScript file from a version folder on the CPU."""
    return TorchScriptRunner(folder / filename, inputs, outputs)


class TorchScriptRunner:
    """A TorchScript file in this process, on the CPU."""

    def __init__(self, path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        try:
            self._module = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as exc:
            raise ConversionError(
                f"torch does not load {path.name}", why=str(exc).splitlines()[0], fix="export the model again"
            ) from exc
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """One run; arrays by output name."""
        tensors = [torch.from_numpy(inputs[name].copy()) for name in self._inputs]  # a model may work in place
        try:
            with torch.inference_mode():
                answer = self._module(*tensors)
        except RuntimeError as exc:
            shapes = {name: array.shape for name, array in inputs.items()}
            raise VerificationError(
                f"the TorchScript fails on inputs of shapes {shapes}",
                why=str(exc).strip().splitlines()[-1],
                fix="the trace is narrower than the model; export torch.jit.script(model) instead",
            ) from exc
        answers = answer if isinstance(answer, tuple) else (answer,)
        odd = [a.dtype if isinstance(a, torch.Tensor) else type(a).__name__ for a in answers if not _servable(a)]
        if odd:
            raise ConversionError(
                f"the TorchScript gives what cannot be served: {', '.join(map(str, odd))}",
                why="Triton's pytorch backend serves a tensor, or a tuple of tensors, of types that numpy has",
                fix="return a tuple of tensors, bfloat16 as float32",
            )
        return {name: one.numpy() for name, one in zip(self._outputs, answers, strict=True)}


def _servable(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype != torch.bfloat16


class _Named(torch.nn.Module):
    """`flat` behind a forward whose signature shows the tensor names; torch.jit.trace reads the signature."""

    def __init__(self, flat: torch.nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.flat = flat

        def forward(*tensors: torch.Tensor) -> Any:
            answers = self.flat(*tensors)
            return answers[0] if len(answers) == 1 else answers

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        forward.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in names])  # type: ignore[attr-defined]
        self.forward = forward


def _renamed(script: torch.jit.ScriptModule, declaration: Declaration) -> torch.jit.ScriptModule:
    arguments = argument_names(script)
    names = list(declaration.example_inputs)
    if arguments[: len(names)] != names:
        raise ConversionError(
            f"the inputs of {declaration.name!r} are named {names}, and the TorchScript's are {arguments}",
            why="Triton finds the inputs of a TorchScript by the names of forward's arguments",
            fix=f"name the inputs {arguments}, in this order",
            model=declaration.name,
        )
    return script


def _trace(source: TorchSource, declaration: Declaration) -> Any:
    inputs = declaration.example_inputs
    module = _with_argument_names(source.flat, tuple(inputs))
    example = source.tensors(take(inputs, [0, 0]) if declaration.batched else inputs)
    asked = _asks_for_values(module, example)
    try:
        with torch.no_grad(), quiet(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            traced = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
    except Exception as exc:
        raise ConversionError(
            f"{declaration.name!r} cannot be traced for TorchScript",
            why=f"{type(exc).__name__}: {str(exc).strip().splitlines()[0] if str(exc).strip() else 'no message'}",
            fix="export torch.jit.script(model) instead, or use --format onnx",
            model=declaration.name,
        ) from exc
    if asked is None:
        asked = any(issubclass(w.category, torch.jit._trace.TracerWarning) for w in caught)
    if asked:
        raise ConversionError(
            f"{declaration.name!r} decides by tensor values, which a trace cannot follow",
            why="its forward turns a tensor into a Python value (if, int(), .item(), .tolist(), .numpy())",
            fix="export torch.jit.script(model) instead",
            model=declaration.name,
        )
    return traced


def _asks_for_values(module: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> bool | None:
    """Whether the model turns a tensor's value into a Python value, which would become a constant in a trace.

    It is run on tensors that have shapes and no values. None where that fails for another reason.
    """
    try:
        with torch.no_grad(), quiet(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
            module(*(mode.from_tensor(tensor) for tensor in example))
    except DataDependentOutputException:
        return True
    except Exception:  # an operator that knows no such tensors, or x[x > 0]; the tracer's warnings decide then
        return None
    return False


def _refuse_scalars(source: TorchSource, declaration: Declaration) -> None:
    """A tensor without axes is no output that Triton's pytorch backend gives."""
    names = [name for name, answer in source.run(declaration.example_inputs).items() if answer.ndim == 0]
    if names:
        raise ConversionError(
            f"output {names[0]!r} of {declaration.name!r} is a single number without an axis",
            why="Triton's pytorch backend does not serve scalars",
            fix="return it with one axis (unsqueeze(0)), or use --format onnx",
            model=declaration.name,
        )


def _with_argument_names(flat: torch.nn.Module, names: tuple[str, ...]) -> torch.nn.Module:
    """A module whose forward has the tensor names as parameters; a trace keeps them as argument names."""
    bad = [name for name in names if not name.isidentifier() or keyword.iskeyword(name)]
    if bad:
        raise ConversionError(
            f"the input names {bad} cannot be arguments of a TorchScript",
            why="Triton's pytorch backend finds inputs by the names of forward's arguments",
            fix="use names of letters, digits and _ only, or --format onnx",
        )
    return _Named(flat, names).eval()
