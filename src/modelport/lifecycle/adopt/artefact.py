"""The model file of a copied-in version: what it is, whether opening it is safe, and its tensors."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelport.convert import format_module, hostile, sniff
from modelport.convert.types import Arrays, Declaration, Runner, Source
from modelport.errors import ManifestError, ModelportError, RepositoryError, SourceFormatError
from modelport.lifecycle.adopt import settings
from modelport.lifecycle.adopt.settings import Settings
from modelport.repository.config import ModelConfig
from modelport.spec import VARIES, ModelSpec, TensorSpec

VARYING = "varies"
_TRAINED = (".keras", ".h5", ".hdf5", ".pth", ".pt2", ".ckpt", ".safetensors")  # of a training job
_DERIVED = "model.onnx"  # only an ONNX graph states its tensors


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A model file that was looked through and may be opened.

    Attributes:
        path: The file.
        format: `onnx` or `torchscript`.
        framework: What wrote it, as far as it says.
        opened: The model in memory.
        order: Names of the inputs, in the order in which the file takes them.
        axes: Names that the file gives to varying axes: input to {axis: name}.
        scalars: Inputs and outputs that have no axis at all.
    """

    path: Path
    format: str
    framework: str
    opened: Any
    order: tuple[str, ...]
    axes: Mapping[str, Mapping[int, str]]
    scalars: frozenset[str] = frozenset()

    def spec(self, config: ModelConfig) -> ModelSpec:
        """The configuration's tensors as the file has them: in its order, a scalar without the axis that callers add.

        Raises:
            RepositoryError: The configuration reshapes a tensor to something else than a scalar.
        """
        spec = settings.spec_of(config)

        def inner(tensor: TensorSpec) -> TensorSpec:
            bare = tensor.name in self.scalars and not spec.batched and tensor.dims == (1,)
            return replace(tensor, dims=()) if bare else tensor

        inputs = {tensor.name: inner(tensor) for tensor in spec.inputs}
        known = set(self.order) == set(inputs)
        return replace(
            spec,
            inputs=tuple(inputs[name] for name in (self.order if known else inputs)),
            outputs=tuple(map(inner, spec.outputs)),
        )

    def declaration(self, spec: ModelSpec, examples: Arrays) -> Declaration:
        """What `convert` wants to know of the model, with the inputs in the file's order."""
        skip = 1 if spec.batched else 0
        axes = {
            tensor.name: {
                axis + skip: self.label(tensor.name, axis + skip)
                for axis, size in enumerate(tensor.dims)
                if size == VARIES
            }
            for tensor in spec.inputs
        }
        return Declaration(
            name=spec.name,
            example_inputs={name: examples[name] for name in self.order},
            output_names=tuple(tensor.name for tensor in spec.outputs),
            dynamic_axes={name: found for name, found in axes.items() if found},
            batched=spec.batched,
        )

    def label(self, name: str, axis: int) -> str:
        """The name of a varying axis; where the file has none, all such axes are taken to have one size."""
        return self.axes.get(name, {}).get(axis, VARYING)

    def source(self, declaration: Declaration) -> Source:
        """The model as its framework runs it: without ONNX Runtime's optimisations, or in torch."""
        made: Source
        if self.format == "onnx":
            made = _module("source_onnx").OnnxSource(self.opened, declaration)
        else:
            made = _module("source_torch").from_module(self.opened, declaration)
        return made

    def runner(self, outputs: tuple[str, ...]) -> Runner:
        """The file loaded as it is served."""
        return format_module(self.format).load(self.path.parent, self.order, outputs, filename=self.path.name)


def open_artefact(folder: Path, found: Settings) -> Artefact:
    """Look through the model file that a configuration asks for, then open it.

    Args:
        folder: The version folder.
        found: The configuration that it goes with; where there is none, an ONNX file is looked for.

    Raises:
        ManifestError: There is no configuration, and the file is none that states its tensors.
        SourceFormatError: The file is missing, empty, cut off, or another kind than the configuration asks for.
        UnsafeSourceError: Opening it would run code or read other files.
    """
    path = folder / (found.filename or _DERIVED)
    if not path.is_file():
        raise _no_file(path, found)
    wanted = found.format or "onnx"
    kind = sniff.kind_of(path)
    if kind != wanted:
        raise SourceFormatError(
            f"{folder.parent.name}/{folder.name}/{path.name} is no {wanted} model",
            why=f"its content is of the kind {kind}; the configuration's backend serves {wanted}",
            fix="copy a model of the right kind, or drop it under another model name",
            path=str(path),
        )
    hostile.check(path, kind)
    return _onnx(path) if kind == "onnx" else _torchscript(path, found)


def check_tensors(artefact: Artefact, spec: ModelSpec) -> None:
    """Compare what an ONNX graph states with the configuration. What a TorchScript gives is seen when it runs.

    Raises:
        RepositoryError: Names, types or sizes differ; the message tells what was expected and what is there.
    """
    if artefact.format != "onnx":
        return
    wrong = _module("graph_tensors").misfits(spec, artefact.opened)
    if wrong:
        raise no_fit(artefact.path, "; ".join(wrong))


def check_outputs(artefact: Artefact, spec: ModelSpec, outputs: tuple[TensorSpec, ...]) -> None:
    """Compare what the model gave with the configuration.

    Raises:
        RepositoryError: A type or a size differs.
    """
    for want, have in zip(spec.outputs, outputs, strict=True):
        sizes = len(want.dims) == len(have.dims) and all(
            size in (VARIES, got) for size, got in zip(want.dims, have.dims, strict=True)
        )
        if want.dtype != have.dtype or not sizes:
            raise no_fit(artefact.path, f"expected is the output {want}; the model gives {have}")


def no_fit(path: Path, why: str) -> RepositoryError:
    """The error for a file that is not what the model's configuration says."""
    return RepositoryError(
        f"{'/'.join(path.parts[-3:])} does not fit the configuration of {path.parent.parent.name!r}",
        why=why,
        fix="keep the tensors of the model's other versions, or drop it under another model name",
        path=str(path),
    )


def _no_file(path: Path, found: Settings) -> ModelportError:
    """The error for a folder without the model file; it tells what is there, and what was most likely meant."""
    folder, model = path.parent, path.parent.parent.name
    reference = f"{model}/{folder.name}"
    there = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    nested = [name for name in there if name.endswith(f"/{path.name}")]
    trained = [name for name in there if Path(name).suffix in _TRAINED]
    holds = f"the folder holds {', '.join(there)[:300] or 'no file'}"
    if nested:
        fix = f"move what is in {nested[0].rpartition('/')[0]}/ one folder up"
    elif trained:
        fix = f"publish it: modelport export {trained[0]} --name {model}; only what is served is copied in"
    elif found.merged is None:
        return ManifestError(
            f"model {model!r} has no config.pbtxt",
            why=f"it is a new model, and there is no {path.name}, which would state its tensors; {holds}",
            fix=f"copy a config.pbtxt into {model}/, or name an ONNX file {path.name}",
            path=str(folder.parent / "config.pbtxt"),
        )
    else:
        fix = f"copy the model file, or name it {path.name}"
    return SourceFormatError(
        f"version {reference} has no {path.name}", why=f"it is the model file; {holds}", fix=fix, path=str(path)
    )


def _onnx(path: Path) -> Artefact:
    model = _module("source_onnx").load(path)
    tensors = _module("graph_tensors")
    return Artefact(
        path=path,
        format="onnx",
        framework=" ".join(["onnx", *filter(None, (model.producer_name, model.producer_version))])[:100],
        opened=model,
        order=tuple(value.name for value in tensors.stated(model)[0]),
        axes=tensors.axis_names(model),
        scalars=frozenset(tensors.scalars(model)),
    )


def _torchscript(path: Path, found: Settings) -> Artefact:
    script = _module("source_files").load_torchscript(path)
    arguments = tuple(_module("source_torch").argument_names(script))
    names = [] if found.merged is None else [tensor.name for tensor in found.merged.input]
    order = arguments if set(names) == set(arguments) else _by_number(names)
    if len(order) != len(arguments) or not order:
        raise no_fit(
            path, f"expected are the inputs {', '.join(names)}; its forward takes {', '.join(arguments) or 'none'}"
        )
    return Artefact(path=path, format="torchscript", framework="torchscript", opened=script, order=order, axes={})


def _by_number(names: list[str]) -> tuple[str, ...]:
    """Names of the form `NAME__0` in the order of their numbers; nothing for others."""
    ends = {name: name.partition("__")[2] for name in names}
    if not all(end.isdecimal() for end in ends.values()):
        return ()
    order = sorted(names, key=lambda name: int(ends[name]))
    return tuple(order) if [int(ends[name]) for name in order] == list(range(len(names))) else ()


def _module(name: str) -> Any:
    return importlib.import_module(f"modelport.convert.{name}")
