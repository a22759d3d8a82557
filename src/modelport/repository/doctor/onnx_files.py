"""ONNX files against the target container and against the configuration, without loading them."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from modelport.errors import UsageError
from modelport.repository.doctor import text_fields
from modelport.repository.doctor.context import Context
from modelport.repository.doctor.files import weight
from modelport.repository.doctor.finding import Finding, Place, Rule
from modelport.repository.doctor.model import Model, seen_dims, type_name
from modelport.repository.doctor.onnx_header import Header, Value
from modelport.repository.doctor.targets import Target
from modelport.spec import VARIES, dtype_of

ONNX_OPSET = Rule(
    id="onnx-opset",
    severity="error",
    title="The operator set of an ONNX file is newer than the target's ONNX Runtime knows",
    why="ONNX Runtime refuses the file",
    fix="export with an older operator set, or serve with a later container",
)
ONNX_IR = Rule(
    id="onnx-ir",
    severity="error",
    title="The IR version of an ONNX file is newer than the target's ONNX Runtime knows",
    why="ONNX Runtime refuses the file",
    fix="export with an older version of the onnx package, set model.ir_version lower, or serve with a later container",
)
ONNX_OPERATORS = Rule(
    id="onnx-custom-operators",
    severity="warning",
    title="An ONNX file needs operators of a domain that ONNX Runtime does not have by itself",
    why="without a library that defines them (model_operations { op_library_filename }) the model does not load; with "
    "one, that library runs in the server",
    fix="export with ONNX's own operators",
)
ONNX_TENSORS = Rule(
    id="onnx-tensors",
    severity="error",
    title="Names, types or sizes in config.pbtxt are not those of the ONNX file",
    why="the model does not load, or refuses what callers send after reading the configuration",
    fix="write the tensors as the file has them",
)
ONNX_BATCH_AXIS = Rule(
    id="onnx-batch-axis",
    severity="error",
    title="max_batch_size is above 0, and the first axis of a tensor in the ONNX file has a fixed size",
    why="the model has no batch axis: 'for the model to support batching the first dimension must vary'",
    fix="write max_batch_size: 0 and the whole shape in dims, or export with a batch axis",
)
ONNX_EXTERNAL = Rule(
    id="onnx-external-data",
    severity="error",
    title="External data of an ONNX file are missing, outside its folder, or a link",
    why="the model does not load, or reads any file of the machine as weights",
    fix="put the data file beside the model as a plain file",
)
RULES = (ONNX_OPSET, ONNX_IR, ONNX_OPERATORS, ONNX_TENSORS, ONNX_BATCH_AXIS, ONNX_EXTERNAL)

# ONNX Runtime's own; `pkg.` is what exporters call functions of theirs. The first two are of onnxruntime-extensions.
_OWN_DOMAINS = re.compile(
    r"(?!ai\.onnx\.contrib$|com\.microsoft\.extensions$)"
    r"((ai\.onnx|com\.microsoft|com\.ms|pkg)(\..*)?|org\.pytorch\.aten)?"
)
_NAME = re.compile(r"[^\x00-\x1f\\]+")


def check(context: Context) -> Iterator[Finding]:
    """The ONNX file of every version of every onnxruntime model."""
    for model in context.models:
        for version, header in model.headers.items():
            yield from _versions(model, version, header, context.target)
            yield from _external(model, version, header)
            if model.config is not None:
                yield from _tensors(model, version, header)


def _file(model: Model, version: int) -> Place:
    path = model.artefact_path(version)
    assert path is not None
    return model.at_path(path)


def _versions(model: Model, version: int, header: Header, target: Target) -> Iterator[Finding]:
    where, severity = _file(model, version), weight(model, version)
    runtime = f"{target.name} has ONNX Runtime {target.onnxruntime}, which knows"
    for domain, number in sorted(header.opsets.items()):
        newest = target.max_opsets.get(domain)
        if newest is not None and number > newest:
            name = domain or "ai.onnx"
            what = f"operator set {name} {number}; {runtime} {newest}"
            yield ONNX_OPSET.found(what, where, severity=severity)
        if not _OWN_DOMAINS.fullmatch(domain) and domain not in header.functions:
            yield ONNX_OPERATORS.found(f"operators of {domain!r}", where)
    if header.ir_version > target.max_ir:
        yield ONNX_IR.found(f"IR version {header.ir_version}; {runtime} {target.max_ir}", where, severity=severity)


def _external(model: Model, version: int, header: Header) -> Iterator[Finding]:
    path = model.artefact_path(version)
    assert path is not None
    for location in sorted(header.locations):
        problem = ""
        parts = PurePosixPath(location).parts
        if not location or not _NAME.fullmatch(location) or location.startswith("/") or ".." in parts:
            problem = "is not a name inside the model's folder"
        else:
            steps = [path.parent.joinpath(*parts[: index + 1]) for index in range(len(parts))]
            if any(step.is_symlink() for step in steps):
                problem = "goes through a link"
            elif not steps[-1].exists():
                problem = "is not there"
            elif not stat.S_ISREG(steps[-1].stat().st_mode):
                problem = "is no plain file"
        if problem:
            yield ONNX_EXTERNAL.found(f"{location!r} {problem}", _file(model, version), severity=weight(model, version))


def _tensors(model: Model, version: int, header: Header) -> Iterator[Finding]:
    config = model.config
    assert config is not None
    severity = weight(model, version)
    known = {value.name: value for value in (*header.inputs, *header.optional)}
    outputs = {value.name: value for value in header.outputs}
    given = {tensor.name for tensor in config.input} | _given_by_triton(config)
    shaped = {name for batch in config.batch_output for name in batch.target_name}  # by the requests
    for value in header.inputs if config.input else ():
        if value.name not in given:
            what = f"version {version}: the file needs an input {value.name!r}, which config.pbtxt does not name"
            yield ONNX_TENSORS.found(what, model.at("input"), severity=severity)
    if not config.input or not config.output:
        yield from _completed(model, version, header)
    for word, group, there in (("input", config.input, known), ("output", config.output, outputs)):
        for index, tensor in enumerate(group):
            found = there.get(tensor.name)
            name = f"version {version}: {word} {tensor.name!r}"
            if found is None:
                what = f"{name} is not in the file; there is {', '.join(map(repr, sorted(there))) or 'none'}"
                yield ONNX_TENSORS.found(what, _line(model, word, index, "name"), severity=severity)
            elif word == "input" and tensor.allow_ragged_batch:
                if found.shape not in (None, (VARIES,)):
                    what = f"{name} is ragged: its shape in the file must be [-1], and is {list(found.shape)}"
                    yield ONNX_TENSORS.found(what, _line(model, word, index, "allow_ragged_batch"), severity=severity)
            elif word == "input" and tensor.optional and found in header.inputs:
                what = f"{name} is optional, and the file needs it"
                yield ONNX_TENSORS.found(what, _line(model, word, index, "optional"), severity=severity)
            elif word == "output" and tensor.name in shaped:
                continue
            elif model.batched and found.shape and found.shape[0] != VARIES:
                what = (
                    f"{name} has the shape {list(found.shape)} in the file; max_batch_size is {config.max_batch_size}"
                )
                yield ONNX_BATCH_AXIS.found(what, model.at(word, index=index), severity=severity)
            elif problem := _misfit(tensor, found, batched=model.batched, exact=word == "output"):
                yield ONNX_TENSORS.found(f"{name} {problem}", _line(model, word, index, "dims"), severity=severity)


def _given_by_triton(config: Any) -> set[str]:
    """Inputs that no caller sends: a sequence's controls and states, and what is counted over a batch."""
    sequence = config.sequence_batching
    made = {name for batch in config.batch_input for name in batch.target_name}
    return made | {control.name for control in sequence.control_input} | {state.input_name for state in sequence.state}


def _completed(model: Model, version: int, header: Header) -> Iterator[Finding]:
    """Tensors that are not written are filled in from the file, where all have a batch axis if one is asked for."""
    if not model.batched:
        return
    for value in (*header.inputs, *header.outputs):
        if value.shape is not None and value.shape[:1] != (VARIES,):
            what = f"version {version}: {value.name!r} has the shape {list(value.shape)} in the file"
            yield ONNX_BATCH_AXIS.found(what, model.at("max_batch_size"), severity=weight(model, version))


def _misfit(tensor: Any, value: Value, *, batched: bool, exact: bool) -> str:
    """How a tensor of the configuration and one of the file differ; empty where they do not."""
    said, has = type_name(tensor), _type_of(value)
    if said != has:
        return f"is {said}, in the file {has}"
    if value.shape is None:
        return ""
    dims = seen_dims(tensor)
    full = (VARIES, *dims) if batched else dims
    if not value.shape:
        scalar = not batched and all(size == 1 for size in dims)
        return "" if scalar else "is a scalar in the file: max_batch_size must be 0 and dims [ 1 ]"
    fits = len(value.shape) == len(full) and all(
        want == got or (want == VARIES and not exact) for want, got in zip(value.shape, full, strict=True)
    )
    if fits:
        return ""
    hint = "; a scalar for each sample is written `dims: [ 1 ] reshape { shape: [ ] }`"
    alone = batched and len(value.shape) == 1 and dims == (1,)
    return f"has the shape {list(full)}, in the file {list(value.shape)}{hint if alone else ''}"


def _type_of(value: Value) -> str:
    if value.dtype == 16:
        return "TYPE_BF16"
    try:
        return dtype_of(value.dtype).config
    except UsageError:
        return f"no tensor that Triton serves (ONNX type {value.dtype})"


def _line(model: Model, word: str, index: int, part: str) -> Place:
    found = text_fields.find(model.fields, word)
    inner = text_fields.find(found[index].fields, part) if index < len(found) else []
    return model.at_line(inner[0].line) if inner else model.at(word, index=index)
