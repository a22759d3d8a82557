"""Kind `fp16`: weights and arithmetic in float16, inputs and outputs as before. For GPUs.

Operators whose answers leave float16's range (65504) are found by running the graph in float16 with every tensor in
view, and keep float32; so do those whose weights are beyond it.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from modelport.convert.runtime import onnxruntime
from modelport.convert.types import Array, Arrays, first_row, rows, take
from modelport.errors import VerificationError
from modelport.optimise import graph
from modelport.optimise.scoring import request
from modelport.optimise.types import FILENAME, Made, Task

SUMMARY = "float16 inside, the same inputs and outputs; for GPUs"
SAMPLES = 0
LARGEST = float(np.finfo(np.float16).max)
LOOKS = 12  # each finds the operators that overflow first
LOOKED_AT = 8  # samples
MARGIN = 4.0
REASON = (
    "weights and intermediate values have 11 bits instead of 24; GPUs add products up in float16 or float32, "
    "processors in float32, so the margin is wider than what was seen here"
)
NOTES = (
    "fp16 is for GPUs: on a processor ONNX Runtime converts to float32 and back around most operators, so do not "
    "expect it to be faster there",
)


def make(task: Task) -> Made:
    """Convert, look where it overflows, and convert again with these operators in float32."""
    name = task.origin.manifest.spec.name
    model = graph.prepared(task.origin.artefact, task.scratch, model=name)
    graph.require_known(model, task.options.exclude)
    samples = _samples(task)
    blocked = {*task.options.exclude, *_beyond(model)}
    plain = _every_tensor(model, samples, name)
    for _ in range(LOOKS):
        task.report(f"running in float16, {len(blocked)} operators in float32")
        made = _converted(model, blocked, name)
        found = _overflowing(made, plain, samples, name) - blocked
        if not found:
            break
        blocked |= found
    else:
        raise VerificationError(
            f"{name!r} overflows in float16 wherever it was looked",
            why=f"after {LOOKS} looks {len(blocked)} operators are in float32, and others still leave {LARGEST:.0f}",
            fix="keep it in float32, or scale its inputs inside the model",
            model=name,
        )
    graph.save(made, task.folder / FILENAME, name=name)
    words = ", ".join(sorted(blocked))
    return Made(
        margin=MARGIN,
        unit=float(np.finfo(np.float16).eps),
        reason=REASON,
        facts={"operators_in_float32": words, "made_for": "gpu"},
        notes=(*NOTES, *((f"operators left in float32, as they overflow: {words}",) if words else ())),
    )


def _samples(task: Task) -> list[Arrays]:
    """Golden inputs and some of the others, each as the model takes it."""
    golden, scoring = task.origin.golden.inputs, task.data.scoring
    if not task.origin.manifest.spec.batched:
        return [golden, *(request(scoring, [row], batched=False) for row in range(min(LOOKED_AT, rows(scoring))))]
    return [take(inputs, range(min(LOOKED_AT, rows(inputs)))) for inputs in (golden, scoring)] + [first_row(golden)]


def _converted(model: onnx.ModelProto, blocked: set[str], name: str) -> onnx.ModelProto:
    try:
        with graph.silent():
            made: onnx.ModelProto = convert_float_to_float16(
                copy.deepcopy(model), keep_io_types=True, node_block_list=sorted(blocked)
            )
    except Exception as exc:
        raise graph.failed(name, "converted to float16", exc) from exc
    _remove_round_trips(made, own={node.name for node in model.graph.node})
    return made


def _remove_round_trips(model: onnx.ModelProto, *, own: Collection[str]) -> None:
    """Between two operators in float32 the converter goes to float16 and back, which overflows after all."""
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.name not in own]
    halved = {node.output[0]: node.input[0] for node in casts if node.attribute[0].i == TensorProto.FLOAT16}
    whole = {
        node.output[0]: halved[node.input[0]]
        for node in casts
        if node.attribute[0].i == TensorProto.FLOAT and node.input[0] in halved
    }
    outputs = {value.name for value in model.graph.output}
    for node in model.graph.node:
        for place, tensor in enumerate(node.input):
            node.input[place] = whole.get(tensor, tensor)
    for node in casts:
        if node.output[0] in whole and node.output[0] in outputs:
            node.op_type, node.input[0] = "Identity", whole[node.output[0]]
            del node.attribute[:]
    for group in (whole, halved):  # the second ones first: they were all that used the others
        used = outputs | {tensor for node in model.graph.node for tensor in node.input}
        for node in casts:
            if node.output[0] in group and node.output[0] not in used:
                model.graph.node.remove(node)


def _beyond(model: onnx.ModelProto) -> set[str]:
    """Nodes with a weight that float16 cannot hold."""
    large = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and _largest(numpy_helper.to_array(tensor)) > LARGEST
    }
    return {node.name for node in model.graph.node if large & set(node.input)}


def _largest(array: Array) -> float:
    finite = array[np.isfinite(array)]
    return float(np.abs(finite).max(initial=0.0))


def _overflowing(model: onnx.ModelProto, plain: list[Arrays], samples: list[Arrays], name: str) -> set[str]:
    """The nodes that give infinity or NaN where float32 gives numbers, and are given numbers themselves."""
    found: set[str] = set()
    for seen, before in zip(_every_tensor(model, samples, name), plain, strict=True):
        odd = {tensor for tensor, array in seen.items() if _broken(array, before.get(tensor))}
        found |= {n.name for n in model.graph.node if odd & set(n.output) and not odd & set(n.input)}
    casts = {node.name: node for node in model.graph.node if node.op_type == "Cast"}
    return {_user_of(model, casts[one]) if one in casts else one for one in found}


def _user_of(model: onnx.ModelProto, cast: onnx.NodeProto) -> str:
    """A cast to float16 that overflows: who takes it has to stay in float32."""
    return next((node.name for node in model.graph.node if cast.output[0] in node.input), cast.name)


def _broken(array: Array, before: Array | None) -> bool:
    """Whether it holds infinity or NaN where float32 has none."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return False
    return before is None or bool(np.isfinite(before[~np.isfinite(array)]).any())


def _every_tensor(model: onnx.ModelProto, samples: list[Arrays], name: str) -> list[Arrays]:
    """What every node gives, for each sample."""
    shown = copy.deepcopy(model)
    have = {value.name for value in shown.graph.output}
    types = _types(shown)
    for node in model.graph.node:
        for tensor in node.output:
            if tensor and tensor not in have and types.get(tensor) in (TensorProto.FLOAT, TensorProto.FLOAT16):
                shown.graph.output.append(helper.make_tensor_value_info(tensor, types[tensor], None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [value.name for value in shown.graph.output]
        return [dict(zip(names, session.run(names, dict(sample)), strict=True)) for sample in samples]
    except Exception as exc:
        raise graph.failed(name, "run in float16", exc) from exc


def _types(model: onnx.ModelProto) -> Mapping[str, int]:
    """Element types by tensor, as far as they can be inferred."""
    with graph.silent():
        inferred = onnx.shape_inference.infer_shapes(model)
    return {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
