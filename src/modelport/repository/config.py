"""`config.pbtxt`: built, read and printed through Triton's own protobuf message, never glued from strings.

What is written is complete: nothing is left to defaults that differ between servers, or to auto-completion. The
version policy always names the versions; a version folder that is not named is inert.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from modelport.convert.types import Array
from modelport.repository.layout import CONFIG_FILE as CONFIG_FILE
from modelport.repository.layout import read_config_text, unreadable_config
from modelport.spec import ModelSpec, TensorSpec, dtype_of

ENSEMBLE = "ensemble"
DEFAULT_MAX_BATCH_SIZE = 32

ModelConfig: TypeAlias = Any  # inference.ModelConfig; protobuf makes the class at run time


@dataclass(frozen=True, kw_only=True)
class EnsembleStep:
    """One step of an ensemble.

    Attributes:
        model: The model that runs.
        inputs: The model's input name to the ensemble's tensor name.
        outputs: The model's output name to the ensemble's tensor name.
    """

    model: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


def build(
    spec: ModelSpec,
    *,
    backend: str,
    filename: str,
    versions: Sequence[int],
    label_files: Mapping[str, str] | None = None,
    instance_count: int = 1,
    parameters: Mapping[str, str] | None = None,
) -> ModelConfig:
    """The complete configuration of a model.

    Args:
        spec: Name, tensors, largest batch.
        backend: Triton backend, such as `onnxruntime`.
        filename: The artefact's name in the version folder.
        versions: The versions to serve.
        label_files: Output name to the name of its label file in the model's folder.
        instance_count: Copies of the model that answer side by side.
        parameters: Backend parameters, as strings.
    """
    config = model_config_pb2.ModelConfig(
        name=spec.name, backend=backend, max_batch_size=spec.max_batch_size, default_model_filename=filename
    )
    for tensor in spec.inputs:
        config.input.add(name=tensor.name, data_type=_type(tensor), dims=tensor.dims or [1])
        _scalar(config.input[-1], tensor, spec)
    for tensor in spec.outputs:
        label_file = (label_files or {}).get(tensor.name, "")
        config.output.add(name=tensor.name, data_type=_type(tensor), dims=tensor.dims or [1], label_filename=label_file)
        _scalar(config.output[-1], tensor, spec)
    config.instance_group.add(kind=model_config_pb2.ModelInstanceGroup.KIND_AUTO, count=instance_count)
    if spec.batched:
        config.dynamic_batching.SetInParent()
    for key, value in sorted((parameters or {}).items()):
        config.parameters[key].string_value = value
    set_versions(config, versions)
    return config


def build_ensemble(spec: ModelSpec, steps: Sequence[EnsembleStep], *, versions: Sequence[int]) -> ModelConfig:
    """The configuration of an ensemble: Triton passes tensors from step to step, nothing else runs."""
    config = model_config_pb2.ModelConfig(name=spec.name, platform=ENSEMBLE, max_batch_size=spec.max_batch_size)
    for tensor in spec.inputs:
        config.input.add(name=tensor.name, data_type=_type(tensor), dims=tensor.dims)
    for tensor in spec.outputs:
        config.output.add(name=tensor.name, data_type=_type(tensor), dims=tensor.dims)
    for step in steps:
        entry = config.ensemble_scheduling.step.add(model_name=step.model, model_version=-1)
        entry.input_map.update(step.inputs)
        entry.output_map.update(step.outputs)
    set_versions(config, versions)
    return config


def set_versions(config: ModelConfig, versions: Sequence[int]) -> None:
    """Make the policy name exactly these versions."""
    config.version_policy.specific.versions[:] = sorted(versions)


def versions_of(config: ModelConfig) -> tuple[int, ...]:
    """The versions that the policy names; empty for another policy than `specific`."""
    return tuple(config.version_policy.specific.versions)


def selected(config: ModelConfig, numbers: Sequence[int]) -> tuple[int, ...]:
    """Which of the versions that have a folder Triton loads, ascending.

    Args:
        config: The model's configuration; without a policy, Triton takes the highest version.
        numbers: The versions for which there is a folder.
    """
    policy, there = config.version_policy, sorted(numbers)
    if policy.HasField("specific"):
        return tuple(v for v in there if v in policy.specific.versions)
    if policy.HasField("all"):
        return tuple(there)
    count = policy.latest.num_versions if policy.HasField("latest") else 1  # `latest { }` loads none
    return tuple(there[max(0, len(there) - count) :])


def read(path: Path) -> ModelConfig:
    """Read a `config.pbtxt`.

    Raises:
        ManifestError: It is missing, or no model configuration.
    """
    return parse(read_config_text(path), where=path)


read_text = read_config_text


def parse(content: str, *, where: Path) -> ModelConfig:
    """The configuration in the text of a `config.pbtxt`.

    Args:
        content: The text.
        where: The file, for messages.

    Raises:
        ManifestError: It is no model configuration.
    """
    try:
        return text_format.Parse(content, model_config_pb2.ModelConfig())
    except text_format.ParseError as exc:
        raise unreadable_config(where, exc) from exc


def text(config: ModelConfig) -> str:
    """The configuration as Triton reads it."""
    printed: str = text_format.MessageToString(config, use_index_order=True)
    return printed


def spec_of(config: ModelConfig) -> ModelSpec:
    """The tensors that a configuration describes."""
    return ModelSpec(
        name=config.name,
        inputs=tuple(_tensor(t) for t in config.input),
        outputs=tuple(_tensor(t) for t in config.output),
        max_batch_size=config.max_batch_size,
    )


def outside(arrays: Mapping[str, Array], tensors: Sequence[TensorSpec]) -> dict[str, Array]:
    """Arrays as callers send and get them: a scalar has an axis of size 1."""
    scalars = {tensor.name for tensor in tensors if not tensor.dims}
    return {name: array[..., np.newaxis] if name in scalars else array for name, array in arrays.items()}


def inside(arrays: Mapping[str, Array], tensors: Sequence[TensorSpec]) -> dict[str, Array]:
    """Arrays as the model itself takes and gives them: a scalar has no axis."""
    scalars = {tensor.name for tensor in tensors if not tensor.dims}
    return {
        name: array[..., 0] if name in scalars and array.shape[-1:] == (1,) else array for name, array in arrays.items()
    }


def _type(tensor: TensorSpec) -> int:
    number: int = model_config_pb2.DataType.Value(tensor.dtype.config)
    return number


def _scalar(entry: Any, tensor: TensorSpec, spec: ModelSpec) -> None:
    """Triton has no tensors without axes: a scalar per sample is `[1]` outside and reshaped to `[]` for the model."""
    if not tensor.dims and spec.batched:
        entry.reshape.SetInParent()


def _tensor(entry: Any) -> TensorSpec:
    name: str = entry.name
    number: int = entry.data_type
    dims: list[int] = entry.dims
    return TensorSpec(name=name, dtype=dtype_of(model_config_pb2.DataType.Name(number)), dims=tuple(dims))
