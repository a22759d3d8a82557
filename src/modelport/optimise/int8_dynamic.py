"""Kind `int8-dynamic`: weights as 8-bit integers, activations quantised while the model runs. Needs no calibration.

For LSTM, attention and dense layers. The scale of activations is taken over a whole batch, so rows that run together
influence each other by a rounding step: the batch axis is proved within the tolerance that is stated for it.
"""

from __future__ import annotations

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from modelport.optimise import cpu, graph
from modelport.optimise.types import FILENAME, Made, Task

SUMMARY = "8-bit weights, activations quantised while it runs; for LSTM, attention and dense layers"
SAMPLES = 0
# Not Conv: its integer form is slower than float32 on a CPU.
OPERATORS = frozenset({"MatMul", "Gemm", "LSTM", "Attention", "Gather", "EmbedLayerNormalization"})
MARGIN = 2.0
REASON = (
    "weights are rounded to 8 bits, activations too while it runs; their scale is taken over the whole batch, so rows "
    "that run together differ by rounding from their single answers"
)


def make(task: Task) -> Made:
    """Quantise the weights of all layers that were not excluded."""
    name = task.origin.manifest.spec.name
    model = graph.prepared(task.origin.artefact, task.scratch, model=name)
    graph.require_known(model, task.options.exclude)
    layers = graph.require_mostly(
        model, OPERATORS, name=name, to="int8-dynamic", fix="use --to int8 for convolutional nets, or --to fp16"
    )
    processor = cpu.processor()
    path, made = task.scratch / "prepared.onnx", task.scratch / "dynamic.onnx"
    task.report(f"quantising the weights of {len(layers)} layers")
    onnx.save(model, str(path))
    try:
        with graph.silent():
            quantize_dynamic(
                str(path),
                str(made),
                op_types_to_quantize=sorted(OPERATORS),
                per_channel=task.options.per_channel,
                reduce_range=not processor.fast,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=sorted(task.options.exclude),
            )
        quantised = onnx.load(str(made))
    except Exception as exc:
        raise graph.failed(name, "quantised to int8-dynamic", exc) from exc
    graph.save(quantised, task.folder / FILENAME, name=name)
    return Made(
        margin=MARGIN,
        reason=REASON,
        facts={
            "weights": f"int8, {'per channel' if task.options.per_channel else 'per tensor'}"
            + ("" if processor.fast else ", 7 bits"),
            "layers_quantised": f"{len(set(layers) - set(task.options.exclude))} of {len(layers)}",
            "layers_excluded": ", ".join(task.options.exclude),
        },
        notes=(processor.advice,),
    )
