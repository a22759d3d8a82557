"""Whom a change concerns: the names in the column `when` of the table."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from modelport.repository.config import ModelConfig
from modelport.repository.doctor.model import Model, outside, type_name
from modelport.upgrade.compose import Service

INPUT_BYTES = 64 << 20  # Triton's own limit for an input in JSON, where it has one
SERVER = ("always", "server", "gpu")  # of the whole; the others are of a model


def of_server(when: str, models: Sequence[Model], services: Sequence[Service]) -> bool:
    """Whether a condition of the whole holds."""
    return when != "gpu" or any(one.gpu for one in services) or any(map(_on_gpu, models))


def of_model(when: str, model: Model, services: Sequence[Service]) -> bool:
    """Whether a condition holds for a model whose configuration can be read."""
    if when == "large_input" and any("http-max-input-size" in one.options for one in services):
        return False
    return model.config is not None and _MODEL[when](model, model.config)


def _on_gpu(model: Model) -> bool:
    if model.config is None:
        return False
    kinds = {group.Kind.Name(group.kind) for group in model.config.instance_group}
    return bool(kinds & {"KIND_GPU", "KIND_MODEL"})


def _large(model: Model, config: ModelConfig) -> bool:
    """Whether an input of a full batch is larger than one in JSON may be; unknown sizes count as one."""
    rows = max(1, config.max_batch_size)
    return any(rows * _bytes(one) > INPUT_BYTES for one in config.input)


def _bytes(tensor: Any) -> int:
    """Of one row; a text counts as one byte."""
    bits = re.search(r"[0-9]+$", type_name(tensor))
    elements: int = math.prod(max(1, int(dim)) for dim in tensor.dims)
    return max(1, int(bits[0]) // 8 if bits else 1) * elements


def _labels_outside(model: Model, config: ModelConfig) -> bool:
    return any(outside(one.label_filename) for one in config.output if one.label_filename)


def _torchscript(model: Model, config: ModelConfig) -> bool:
    return model.backend == "pytorch" and PurePosixPath(model.artefact).suffix == ".pt"


_MODEL: Mapping[str, Callable[[Model, ModelConfig], bool]] = {
    "python": lambda model, _: model.backend == "python",
    "tensorrt": lambda model, _: model.backend == "tensorrt",
    "torchscript": _torchscript,
    "large_input": _large,
    "labels_outside": _labels_outside,
    "max_inflight_requests": lambda _, config: bool(getattr(config.ensemble_scheduling, "max_inflight_requests", 0)),
    "execution_env": lambda _, config: "EXECUTION_ENV_PATH" in config.parameters,
}
NAMES = frozenset({*SERVER, *_MODEL})
