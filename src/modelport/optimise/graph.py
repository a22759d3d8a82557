"""What all kinds do with an ONNX graph: simplify it, say where its weights are, write what the servers read."""

from __future__ import annotations

import contextlib
import logging
import math
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import onnx
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.quantization.shape_inference import quant_pre_process

from modelport.convert.quiet import quiet
from modelport.errors import ConversionError, UsageError

MAX_OPSET, MAX_IR = 21, 10  # ONNX Runtime 1.19, in Triton 24.10
MAX_INLINE_BYTES = 1_900_000_000  # a protobuf message ends at 2 GiB
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
QUANTISED = ("QuantizeLinear", "DynamicQuantize", "Integer", "QLinear")  # parts of operators' names
WEIGHT_BYTES = 64  # smaller constants are none


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """No log lines or prints of the tools inside; their errors are raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with quiet():
            yield
    finally:
        logging.disable(before)


def prepared(path: Path, scratch: Path, *, model: str) -> onnx.ModelProto:
    """The graph after ONNX Runtime's optimisations that hold on every device, its shapes inferred, its nodes named.

    Args:
        path: The ONNX file.
        scratch: A folder for files that are not kept.
        model: Model name, for messages.

    Raises:
        ConversionError: ONNX Runtime refuses the graph, or it is quantised or in float16 already.
    """
    simplified = scratch / "prepared.onnx"
    try:
        with silent():
            quant_pre_process(str(path), str(simplified), skip_symbolic_shape=True)
        made = onnx.load(str(simplified))
    except Exception as exc:
        raise failed(model, "simplified", exc) from exc
    _require_float32(made, model)
    taken: set[str] = set()
    for number, node in enumerate(made.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{number}"
        taken.add(node.name)
    return made


def weights(model: onnx.ModelProto) -> dict[str, int]:
    """Bytes of floating-point constants, by the name of the node that uses them first."""
    sizes = {tensor.name: _bytes(tensor) for tensor in model.graph.initializer if tensor.data_type in FLOATS}
    found: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            size = sizes.pop(name, 0)
            if size > WEIGHT_BYTES:
                found[node.name] = found.get(node.name, 0) + size
    return found


def require_mostly(model: onnx.ModelProto, operators: frozenset[str], *, name: str, to: str, fix: str) -> list[str]:
    """The layers that can be quantised: nodes of these operators with weights.

    Args:
        model: A prepared graph.
        operators: What the quantizer takes.
        name: Model name, for messages.
        to: The kind, for messages.
        fix: What to do instead.

    Raises:
        ConversionError: There is none, or most of the weights are elsewhere.
    """
    bytes_of, kinds = weights(model), {node.name: node.op_type for node in model.graph.node}
    layers = [node for node in bytes_of if kinds[node] in operators]
    taken = sum(bytes_of[node] for node in layers)
    total = sum(bytes_of.values())
    if layers and taken * 2 >= total:
        return layers
    words = elsewhere(model, operators)
    raise ConversionError(
        f"{name!r} cannot be quantised to {to}",
        why=f"its weights are in operators that cannot be: {words}" if words else "it has no layer with weights",
        fix=fix,
        model=name,
    )


def elsewhere(model: onnx.ModelProto, operators: frozenset[str]) -> str:
    """The operators beside these that hold most of the other weights, in words; empty when none does."""
    kinds = {node.name: node.op_type for node in model.graph.node}
    left = Counter[str]()
    for node, size in weights(model).items():
        left[kinds[node]] += size if kinds[node] not in operators else 0
    return ", ".join(f"{kind} ({size / 1000:,.0f} kB)" for kind, size in left.most_common(3) if size)


def region(model: onnx.ModelProto, layer: str, layers: Collection[str]) -> set[str]:
    """A layer, and what comes after it up to the next layers: these have its precision."""
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for tensor in node.input:
            users.setdefault(tensor, []).append(node)
    found, waiting = {layer}, [node for node in model.graph.node if node.name == layer]
    while waiting:
        for tensor in waiting.pop().output:
            more = [node for node in users.get(tensor, ()) if node.name not in found and node.name not in layers]
            found |= {node.name for node in more}
            waiting += more
    return found


def last(model: onnx.ModelProto, layers: Collection[str]) -> set[str]:
    """The layers after which no other comes on the way to an output."""
    found = set()
    for layer in layers:
        own = region(model, layer, layers)
        given = {tensor for node in model.graph.node if node.name in own for tensor in node.output}
        if not any(given & set(node.input) for node in model.graph.node if node.name not in own):
            found.add(layer)
    return found


def take_out_pairs(model: onnx.ModelProto, layers: Collection[str]) -> None:
    """Leave what these layers give as it is: the QuantizeLinear and DequantizeLinear after them go."""
    outputs = {value.name for value in model.graph.output}
    for layer in [node for node in model.graph.node if node.name in layers]:
        for down in [n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in layer.output]:
            for up in [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == down.output[0]]:
                before, after = down.input[0], up.output[0]
                model.graph.node.remove(up)
                if after in outputs:
                    layer.output[list(layer.output).index(before)] = after
                _rename_inputs(model, *((before, after) if after in outputs else (after, before)))
            model.graph.node.remove(down)
    used = {tensor for node in _nodes(model.graph) for tensor in node.input} | outputs
    for constant in [one for one in model.graph.initializer if one.name not in used]:
        model.graph.initializer.remove(constant)


def _rename_inputs(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        for place, tensor in enumerate(node.input):
            node.input[place] = new if tensor == old else tensor


def require_known(model: onnx.ModelProto, names: Collection[str]) -> None:
    """Refuse names that no node has.

    Raises:
        UsageError: With the nodes that have weights.
    """
    known = {node.name for node in model.graph.node}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(
            f"there is no operator {unknown[0]!r} to exclude",
            why="--exclude names nodes of the graph as it is after simplification",
            fix=f"use one of {', '.join(weights(model))}",
        )


def save(model: onnx.ModelProto, path: Path, *, name: str) -> None:
    """Write a graph that every supported server reads, or refuse.

    Raises:
        ConversionError: It needs a newer opset, or is no valid graph.
    """
    ONNXModel(model).topological_sort()  # the tools append what they insert
    used = {node.domain if node.domain != "ai.onnx" else "" for node in _nodes(model.graph)}
    used |= {node.domain for function in model.functions for node in function.node}
    needed = [entry for entry in model.opset_import if entry.domain in used | {""}]
    del model.opset_import[:]
    model.opset_import.extend(needed)
    model.ir_version = min(model.ir_version, MAX_IR)
    opset = max((entry.version for entry in needed if entry.domain in ("", "ai.onnx")), default=0)
    if opset > MAX_OPSET:
        raise ConversionError(
            f"the optimised {name!r} needs opset {opset}",
            why=f"servers of release 24.10 read opset {MAX_OPSET} and below",
            fix="export the model anew, and optimise that version",
            model=name,
        )
    try:
        if model.ByteSize() > MAX_INLINE_BYTES:
            onnx.save(model, str(path), save_as_external_data=True, location=f"{path.name}.data")
        else:
            onnx.save(model, str(path))
            onnx.checker.check_model(model)
    except Exception as exc:
        raise failed(name, "written", exc) from exc


def failed(model: str, what: str, exc: Exception) -> ConversionError:
    """A tool's error as ours."""
    lines = str(exc).strip().splitlines()
    return ConversionError(
        f"the graph of {model!r} cannot be {what}",
        why=f"{type(exc).__name__}: {lines[0][:300] if lines else 'no message'}",
        fix="keep layers out of it with --exclude, or choose another kind",
        model=model,
    )


def _require_float32(made: onnx.ModelProto, model: str) -> None:
    done = sorted({node.op_type for node in _nodes(made.graph) if any(word in node.op_type for word in QUANTISED)})
    half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in made.graph.initializer)
    if done or half:
        raise ConversionError(
            f"this version of {model!r} is in smaller numbers already",
            why=f"its graph has {', '.join(done)}" if done else "its weights are float16",
            fix=f"optimise the float32 version that it was made from: 'modelport list {model}'",
            model=model,
        )


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _bytes(tensor: onnx.TensorProto) -> int:
    each = {int(onnx.TensorProto.FLOAT16): 2, int(onnx.TensorProto.DOUBLE): 8}.get(tensor.data_type, 4)
    return int(each * math.prod(tensor.dims))
