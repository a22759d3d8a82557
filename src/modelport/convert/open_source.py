"""From what the caller gave - a module, a Keras model, a file, a factory's name - to a source.

Files are recognised by content and checked for hostile content before a framework sees them.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelport.convert import hostile, sniff
from modelport.convert.inputs import InputDeclaration, check_declared, check_examples, made_up, with_texts
from modelport.convert.types import Arrays, Declaration, Source
from modelport.errors import ExampleInputError, UsageError


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller said about the model; see `modelport.export` for the meaning of each."""

    name: str
    example_inputs: Arrays | None = None
    declared: tuple[InputDeclaration, ...] = ()
    output_names: Sequence[str] = ()
    dynamic_axes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    pad: Mapping[str, float] = field(default_factory=dict)
    batched: bool = True
    weights: Path | None = None


def open_source(given: Any, request: Request) -> tuple[Source, Declaration]:
    """Open a source.

    Args:
        given: A torch module, a Keras model, a path, or `package.module:factory`.
        request: Names, examples, axes.

    Returns:
        The source and the complete declaration, examples made up where none were given.

    Raises:
        SourceError: One of its leaves; see `modelport.errors`.
        UsageError: `given` is none of these.
    """
    if isinstance(given, (str, Path)):
        text = str(given)
        if ":" in text and not os.path.exists(text):  # noqa: PTH110 - Path.exists raises for a name that is too long
            return _from_object(_module("source_files").make(text, request.weights), request)
        return _from_path(Path(text), request)
    if request.weights is not None:
        raise UsageError(
            f"weights {str(request.weights)!r} were given with a model that is in memory",
            why="they are loaded into what a factory makes",
            fix="load them into the model first, or name the factory (package.module:function)",
        )
    return _from_object(given, request)


def _from_path(path: Path, request: Request) -> tuple[Source, Declaration]:
    kind = sniff.kind_of(path)
    hostile.check(path, kind)
    if request.weights is not None:
        raise UsageError(
            f"--weights was given with the file {path.name}",
            why="a model file brings its own weights",
            fix="leave --weights out, or name a factory (package.module:function) instead of the file",
        )
    if kind == "onnx":
        onnx = _module("source_onnx")
        model = onnx.load(path)
        declaration = _declare(request, onnx.declared(model))
        return onnx.OnnxSource(model, declaration), declaration
    if kind in ("keras", "h5"):
        return _from_object(_module("source_keras").load(path), request)
    files = _module("source_files")
    if kind == "torchscript":
        return _from_object(files.load_torchscript(path), request)
    module, declared = files.load_program(path)
    declaration = _declare(request, declared)
    source: Source = _module("source_torch").from_module(module, declaration)
    return source, declaration


def _from_object(model: Any, request: Request) -> tuple[Source, Declaration]:
    family = {base.__module__.split(".")[0] for base in type(model).__mro__}
    source: Source
    if "keras" in family:
        keras = _module("source_keras")
        declaration = _declare(request, keras.declared(model))
        source = keras.from_model(model, declaration)
    elif "torch" in family and callable(getattr(model, "forward", None)):
        declaration = _declare(request)
        source = _module("source_torch").from_module(model, declaration)
    else:
        raise UsageError(
            f"a {type(model).__module__}.{type(model).__name__} cannot be exported",
            why="it is neither a torch.nn.Module nor a Keras 3 model nor a path",
            fix="give a module, a keras.Model, a model file, or 'package.module:factory'",
        )
    return source, declaration


def _declare(request: Request, own: Sequence[InputDeclaration] = ()) -> Declaration:
    """The complete declaration: what the caller said, then what the model states of itself (`own`)."""
    known = tuple(request.declared or own)
    if request.example_inputs is None and not known:
        raise ExampleInputError(
            f"nothing is known about the inputs of {request.name!r}",
            why="this kind of model does not state its inputs",
            fix="give --input NAME:DTYPE:batch,... or --samples FILE.npz (example_inputs= in Python)",
        )
    examples = made_up(known) if request.example_inputs is None else with_texts(request.example_inputs)
    if request.declared:
        check_declared(request.declared, examples)
        examples = {d.name: examples[d.name] for d in request.declared}  # they tell the order
    batched = request.batched and all(d.batched for d in known)
    declaration = Declaration(
        name=request.name,
        example_inputs=examples,
        output_names=tuple(request.output_names),
        dynamic_axes={**_axes(known, list(examples), batched), **request.dynamic_axes},
        batched=batched,
        pad=request.pad,
    )
    check_examples(declaration)
    return declaration


def _axes(known: Sequence[InputDeclaration], names: list[str], batched: bool) -> dict[str, Mapping[int, str]]:
    """Varying axes by example input; a caller's own names stand for the model's inputs in their order."""
    if len(known) != len(names):
        return {}
    same = {d.name for d in known} == set(names)
    axes = {d.name if same else name: d.dynamic_axes(batched=batched) for name, d in zip(names, known, strict=True)}
    return {name: found for name, found in axes.items() if found}


def _module(name: str) -> Any:
    return importlib.import_module(f"modelport.convert.{name}")
