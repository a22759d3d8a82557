"""Settings of ONNX Runtime that are written where they have no effect, or that it does not know."""

from __future__ import annotations

from collections.abc import Iterator

from modelport.repository.doctor import text_fields
from modelport.repository.doctor.context import Context
from modelport.repository.doctor.finding import Finding, Rule
from modelport.repository.doctor.model import Model

CUDA_IGNORED = Rule(
    id="cuda-ignored",
    severity="warning",
    title="The `cuda` accelerator is given a key that it ignores",
    why="the backend overwrites cudnn_conv_algo_search, gpu_mem_limit, arena_extend_strategy and "
    "do_copy_in_default_stream with defaults, without a message (triton-inference-server/server issue 8808)",
    fix='write it at the top level: parameters { key: "KEY" value { string_value: "VALUE" } }; '
    "cudnn_conv_algo_search is 0 exhaustive, 1 heuristic, 2 default there, arena_extend_strategy 0 or 1",
)
ACCELERATOR_UNKNOWN = Rule(
    id="accelerator-unknown",
    severity="error",
    title="An execution accelerator is none of ONNX Runtime's: cuda, tensorrt (GPU), openvino (CPU)",
    why="the model does not load: 'unknown Execution Accelerator'",
    fix="correct the name",
)
RULES = (CUDA_IGNORED, ACCELERATOR_UNKNOWN)

_IGNORED = ("cudnn_conv_algo_search", "gpu_mem_limit", "arena_extend_strategy", "do_copy_in_default_stream")
_KNOWN = {"gpu_execution_accelerator": ("cuda", "tensorrt"), "cpu_execution_accelerator": ("openvino",)}
_PATH = ("optimization", "execution_accelerators")


def check(context: Context) -> Iterator[Finding]:
    """The accelerators of every onnxruntime model."""
    for model in context.models:
        if model.config is not None and model.backend == "onnxruntime":
            for group in _KNOWN:
                yield from _accelerators(model, group)


def _accelerators(model: Model, group: str) -> Iterator[Finding]:
    assert model.config is not None
    items = getattr(model.config.optimization.execution_accelerators, group)
    written = text_fields.find(model.fields, *_PATH, group)
    for index, item in enumerate(items):
        place = written[index] if index < len(written) else None
        where = model.at(*_PATH, group, index=index)
        if item.name not in _KNOWN[group]:
            yield ACCELERATOR_UNKNOWN.found(f"{group} {item.name!r}", where)
        if item.name == "cuda":
            for key in sorted(set(item.parameters) & set(_IGNORED)):
                entry = text_fields.entry(place.fields, "parameters", key) if place else None
                what = f"{key} = {item.parameters[key]!r} has no effect here"
                yield CUDA_IGNORED.found(what, model.at_line(entry.line) if entry else where)
