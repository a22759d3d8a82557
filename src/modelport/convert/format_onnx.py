"""Format `onnx`: written by torch's exporter, run here by ONNX Runtime, served by Triton's `onnxruntime` backend.

Opset and IR are ones that ONNX Runtime 1.19 (Triton 24.10) and everything later reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch.export import Dim

from modelport.convert.inputs import resized
from modelport.convert.quiet import quiet
from modelport.convert.runtime import onnxruntime
from modelport.convert.source_onnx import OnnxSource
from modelport.convert.source_torch import TorchSource
from modelport.convert.types import Array, Arrays, Declaration, Source, rows, take
from modelport.errors import BatchAxisError, ConversionError, VerificationError

BACKEND = "onnxruntime"
FILENAME = "model.onnx"
OPSET = 20
MAX_IR = 10
MAX_INLINE_BYTES = 1_900_000_000  # a protobuf message ends at 2 GiB; beyond, weights go into a second file


def write(source: Source, declaration: Declaration, folder: Path) -> None:
    """Write `model.onnx` with the declared tensor names and a named batch axis.

    Raises:
        ConversionError: torch cannot trace the model, or the result does not fit the declaration.
        BatchAxisError: The model fixes the size of axis 0.
    """
    if isinstance(source, OnnxSource):
        model = source.named(declaration)
    elif isinstance(source, TorchSource) and source.script is None:
        model = _export(source, declaration)
    else:
        raise ConversionError(
            f"{declaration.name!r} cannot be written as ONNX from {source.framework}",
            why="torch's ONNX exporter needs the Python module, not its TorchScript",
            fix="export the torch.nn.Module (package.module:factory --weights FILE), or use --format torchscript",
            model=declaration.name,
        )
    _save(model, folder)


def load(folder: Path, inputs: Sequence[str], outputs: Sequence[str], *, filename: str = FILENAME) -> OnnxRunner:
    """Load an ONNX file from a version folder in ONNX Runtime on the CPU."""
    return OnnxRunner(folder / filename, outputs)


class OnnxRunner:
    """An ONNX file in ONNX Runtime, on the CPU, at its default optimisation."""

    def __init__(self, path: Path, outputs: Sequence[str]) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as exc:
            raise ConversionError(
                f"ONNX Runtime does not load {path.name}",
                why=str(exc).splitlines()[0],
                fix="compute in float32 or float16 (bfloat16 does not run on a CPU), or use --format torchscript",
            ) from exc
        self._outputs = list(outputs)

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """One run; arrays by output name."""
        try:
            answers = self._session.run(self._outputs, dict(inputs))
        except Exception as exc:
            shapes = {name: array.shape for name, array in inputs.items()}
            raise VerificationError(
                f"ONNX Runtime fails on inputs of shapes {shapes}",
                why=str(exc).splitlines()[0],
                fix="the exported graph is narrower than the model; export with other example inputs",
            ) from exc
        return dict(zip(self._outputs, (np.asarray(a) for a in answers), strict=True))


def _export(source: TorchSource, declaration: Declaration) -> onnx.ModelProto:
    inputs = declaration.example_inputs
    if declaration.batched:
        inputs = take(inputs, [0, 0] if rows(inputs) < 2 else [0, 1])
    if any(inputs[name].shape[axis] == 1 for name, axes in declaration.dynamic_axes.items() for axis in axes):
        inputs = resized(declaration, inputs, 1)  # torch takes a size of 1 for a constant
    shapes = tuple(dict.fromkeys(_labels(declaration, name), Dim.DYNAMIC) for name in inputs)
    with quiet():
        try:
            program = torch.onnx.export(
                source.flat,
                source.tensors(inputs),
                dynamo=True,
                dynamic_shapes=(shapes,),
                input_names=list(inputs),
                output_names=list(source.output_names),
                opset_version=OPSET,
                external_data=False,
                optimize=True,
                verbose=False,
            )
        except Exception as exc:
            raise _translated(exc, declaration) from exc
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _strip(model)
    _name_axes(model, declaration)
    return model


def _labels(declaration: Declaration, name: str) -> dict[int, str]:
    """Axis to name for every axis of an input that varies, the batch axis among them."""
    batch = {0: "batch"} if declaration.batched else {}
    return {**batch, **declaration.dynamic_axes.get(name, {})}


def _name_axes(model: onnx.ModelProto, declaration: Declaration) -> None:
    """Give the varying axes their names, in the inputs and wherever the exporter's own symbols stand."""
    names: dict[str, str] = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        for axis, label in _labels(declaration, value.name).items():
            if not dims[axis].dim_param:
                raise _fixed_axis(declaration, value.name, axis, label, dims[axis].dim_value)
            names[dims[axis].dim_param] = label
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]


def _fixed_axis(declaration: Declaration, tensor: str, axis: int, label: str, size: int) -> Exception:
    if axis == 0 and declaration.batched:
        return _no_batch(declaration, f"axis 0 of {tensor!r} came out with the fixed size {size}")
    return ConversionError(
        f"axis {axis} ({label!r}) of input {tensor!r} does not vary: its size is fixed to {size}",
        why="the model computes with that size as a constant while it is traced, as Keras's recurrent layers do",
        fix="use tensor operations instead of Python numbers for that size, or declare it as a number",
        model=declaration.name,
    )


def _no_batch(declaration: Declaration, why: str) -> BatchAxisError:
    return BatchAxisError(
        f"axis 0 of {declaration.name!r} is no batch axis",
        why=why,
        fix="write the model so that the number of rows is free, or export with --max-batch-size 0",
        model=declaration.name,
    )


FIXED_AXIS = re.compile(r"(?:\['tensors'\]|\['args'\]|tensors|args)\[(\d+)\]\.(?:size\(\)|shape)\[(\d+)\].*")
WRAPPERS = ("TorchExportError", "ConversionError", "OnnxExporterError")
FIXED_SIZE = re.compile(r"(?:static shape of|constant \()\s*(\d+)")


def _translated(exc: Exception, declaration: Declaration) -> Exception:
    """torch's error as ours: an axis that came out fixed, or else the reason in torch's words."""
    chain = [exc, *_causes(exc)]
    for line in "\n".join(map(str, chain)).splitlines():
        axis, size = FIXED_AXIS.search(line), FIXED_SIZE.search(line)
        if axis and size:
            name = list(declaration.example_inputs)[int(axis.group(1))]
            number = int(axis.group(2))
            label = _labels(declaration, name).get(number, "")
            return _fixed_axis(declaration, name, number, label, int(size.group(1)))
    return ConversionError(
        f"{declaration.name!r} cannot be traced for ONNX",
        why=_reason(chain),
        fix="make the control flow in forward independent of tensor values, or try --format torchscript",
        model=declaration.name,
    )


def _reason(chain: Sequence[BaseException]) -> str:
    """The first line of the first exception that is not one of torch's wrappers."""
    lines = [next((line.strip() for line in str(step).splitlines() if line.strip()), "") for step in chain]
    for step, line in zip(chain, lines, strict=True):
        if line and type(step).__name__ not in WRAPPERS and not line.startswith("The error above"):
            return f"{type(step).__name__}: {line[:600]}"
    return f"{type(chain[0]).__name__}: {lines[0][:600] or 'no message'}"


def _causes(exc: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    step = exc.__cause__ or exc.__context__
    while step is not None and len(found) < 10:
        found.append(step)
        step = step.__cause__ or step.__context__
    return found


def _strip(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes for its developers: stack traces with paths of this machine."""
    nodes: list[Any] = list(model.graph.node)
    for function in model.functions:
        nodes += function.node
    for holder in [model, model.graph, *model.graph.input, *model.graph.output, *model.graph.value_info, *nodes]:
        holder.ClearField("metadata_props")
        holder.ClearField("doc_string")
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                for inner in attribute.g.node:
                    inner.ClearField("metadata_props")
                    inner.ClearField("doc_string")


def _save(model: onnx.ModelProto, folder: Path) -> None:
    if model.ir_version > MAX_IR:
        model.ir_version = MAX_IR
    if model.ByteSize() > MAX_INLINE_BYTES:
        onnx.save(model, str(folder / FILENAME), save_as_external_data=True, location=f"{FILENAME}.data")
    else:
        onnx.save(model, str(folder / FILENAME))
