"""Inputs and outputs as the configuration writes them, without a look into the model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from modelport.repository.doctor import text_fields
from modelport.repository.doctor.context import Context
from modelport.repository.doctor.finding import Finding, Place, Rule, Severity
from modelport.repository.doctor.model import Model
from modelport.repository.doctor.targets import EMBEDDED_BACKENDS

TENSORS_MISSING = Rule(
    id="tensors-missing",
    severity="warning",
    title="A config.pbtxt names no inputs or no outputs (a note for backends that only a container has)",
    why="some backends fill them in by themselves in the container, pytorch and ensembles do not; the embedded server "
    "never does",
    fix="write every input and output with name, data_type and dims",
)
TENSOR_INVALID = Rule(
    id="tensor-invalid",
    severity="error",
    title="An input or output has no name or data_type, a size of 0 or below -1, or a reshape of another size",
    why="Triton refuses the model",
    fix="correct the tensor",
)
SCALAR_RESHAPE = Rule(
    id="scalar-reshape",
    severity="error",
    title="A scalar is written as no dims at all, or as an empty reshape without batches",
    why="Triton has no tensors without axes: 'must specify dims', or 'scalar tensors are not supported'",
    fix="with batches write `dims: [ 1 ] reshape { shape: [ ] }`, without write `dims: [ 1 ]`",
    repair="edit",
)
BATCH_SIZE = Rule(
    id="batch-size",
    severity="error",
    title="max_batch_size is negative",
    why="Triton refuses the model",
    fix="write 0 for a model without a batch axis",
)
RULES = (TENSORS_MISSING, TENSOR_INVALID, SCALAR_RESHAPE, BATCH_SIZE)


def check(context: Context) -> Iterator[Finding]:
    """Every tensor of every configuration."""
    for model in context.models:
        if model.config is None:
            continue
        missing = [word for word in ("input", "output") if not getattr(model.config, word)]
        if missing:
            never = model.backend in ("pytorch", "ensemble")
            usual: Severity = "warning" if model.backend in EMBEDDED_BACKENDS else "note"
            yield TENSORS_MISSING.found(
                f"there is no {' and no '.join(missing)}",
                model.at(),
                severity="error" if never else usual,
                why="nothing fills them in here, so Triton refuses the model" if never else "",
            )
        if model.config.max_batch_size < 0:
            what = f"max_batch_size is {model.config.max_batch_size}"
            yield BATCH_SIZE.found(what, model.at("max_batch_size"))
        for word in ("input", "output"):
            for index, tensor in enumerate(getattr(model.config, word)):
                yield from _tensor(model, word, index, tensor)


def _tensor(model: Model, word: str, index: int, tensor: Any) -> Iterator[Finding]:
    name = f"{word} {tensor.name!r}" if tensor.name else f"{word} number {index + 1}"
    where = model.at(word, index=index)
    if not tensor.name or tensor.data_type == 0:
        yield TENSOR_INVALID.found(f"{name} has no {'data_type' if tensor.name else 'name'}", where)
    empty_reshape = tensor.HasField("reshape") and not tensor.reshape.shape
    if not tensor.dims or (empty_reshape and not model.batched):
        problem = "an empty reshape, and max_batch_size is 0" if tensor.dims else "no dims"
        fixable = list(tensor.dims) == [1] or is_scalar(model, tensor)
        yield SCALAR_RESHAPE.found(f"{name} has {problem}", where, fixable=fixable)
    for part, sizes in (("dims", tensor.dims), ("reshape", tensor.reshape.shape)):
        if any(size == 0 or size < -1 for size in sizes):
            yield TENSOR_INVALID.found(f"{name} has {part} {list(sizes)}", _part(model, word, index, part))
    if tensor.dims and tensor.HasField("reshape") and _runs(tensor.dims) != _runs(tensor.reshape.shape):
        what = f"{name}: dims {list(tensor.dims)} and reshape {list(tensor.reshape.shape)} hold different numbers"
        yield TENSOR_INVALID.found(what, _part(model, word, index, "reshape"))


def is_scalar(model: Model, tensor: Any) -> bool:
    """Whether a tensor has one number a sample in every ONNX file of the model."""
    shapes = [
        value.shape
        for header in model.headers.values()
        for value in (*header.inputs, *header.optional, *header.outputs)
        if value.name == tensor.name
    ]
    return bool(shapes) and all(shape is not None and len(shape) == int(model.batched) for shape in shapes)


def _runs(sizes: Any) -> list[int]:
    """The number of elements between sizes that vary; a reshape must keep them."""
    runs: list[list[int]] = [[]]
    for size in sizes:
        if size < 0:
            runs.append([])
        else:
            runs[-1].append(size)
    return [math.prod(run) for run in runs]


def _part(model: Model, word: str, index: int, part: str) -> Place:
    found = text_fields.find(model.fields, word)[index : index + 1]
    inner = text_fields.find(found[0].fields, part) if found else []
    return model.at_line(inner[0].line) if inner else model.at(word, index=index)
