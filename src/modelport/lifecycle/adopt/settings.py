"""The configuration that a copied-in version goes with.

A model that has versions of its own has a configuration of its owner's: the version must fit it. A configuration that
came with the files is a stranger's: it may describe tensors, batches and instances, and nothing that makes Triton read
or run other files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelport.convert.hostile.refusals import words
from modelport.errors import ManifestError, RepositoryError, UnsafeSourceError
from modelport.repository import config as configs
from modelport.repository import placed
from modelport.repository.layout import config_path, version_numbers
from modelport.repository.merge import merged
from modelport.server import connection
from modelport.spec import ModelSpec, TensorSpec

FORMAT_OF = {"onnxruntime": "onnx", "pytorch": "torchscript", "python": "python"}
_USUAL_FILE = {"onnx": "model.onnx", "torchscript": "model.pt", "python": "model.py"}
_BACKEND_OF_PLATFORM = {"onnxruntime_onnx": "onnxruntime", "pytorch_libtorch": "pytorch"}
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,126}")
MAX_INSTANCES = 64
MAX_BATCH_SIZE = 65_536

_FIELDS: Mapping[str, frozenset[str]] = {
    "": words(
        "name backend platform max_batch_size input output instance_group dynamic_batching version_policy "
        "default_model_filename parameters optimization"
    ),
    "input": words("name data_type format dims reshape"),
    "output": words("name data_type dims reshape label_filename"),
    "instance_group": words("name kind count gpus"),
    "optimization": words("graph input_pinned_memory output_pinned_memory"),
}
_PARAMETERS = words(
    "intra_op_thread_count inter_op_thread_count execution_mode enable_mem_arena enable_mem_pattern "
    "memory.enable_memory_arena_shrinkage DISABLE_OPTIMIZED_EXECUTION INFERENCE_MODE INTRA_OP_THREAD_COUNT "
    "INTER_OP_THREAD_COUNT DISABLE_CUDNN ENABLE_JIT_PROFILING ENABLE_JIT_EXECUTOR ENABLE_TENSOR_FUSER "
    "ENABLE_CACHE_CLEANING ENABLE_WEIGHT_SHARING"
)
_VALUE = re.compile(r"[A-Za-z0-9_:;+-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a version is to be served with.

    Attributes:
        present: The configuration in the model's folder; None where there is none.
        brought: The one in the version's own folder; None where there is none.
        merged: The model's configuration once the version is promoted, nothing left to defaults; None where neither is
            there, so that it is to be derived.
        renamed: Whether the one in the version's folder is of the model's name before.
    """

    present: configs.ModelConfig | None
    brought: configs.ModelConfig | None
    merged: configs.ModelConfig | None
    renamed: bool = False

    @property
    def format(self) -> str:
        """`onnx`, `torchscript`, `python` or `ensemble`; empty where nothing says it."""
        return "" if self.merged is None else format_of(self.merged)

    @property
    def filename(self) -> str:
        """Name of the model file; empty where nothing says it."""
        return "" if self.merged is None else str(self.merged.default_model_filename)


def find(repository: Path, model: str, version: int, *, allow_code: bool = False, before: str = "") -> Settings:
    """The configuration that a version goes with.

    Args:
        repository: The model repository.
        model: Model name.
        version: Version number.
        allow_code: Take a stranger's configuration as it is.
        before: The model's name in the version's own manifest: it may have been renamed.

    Raises:
        ManifestError: A configuration cannot be read.
        UnsafeSourceError: One that was copied in asks for more than tensors, batches and instances.
        RepositoryError: The version's own configuration is not that of the model's other versions.
    """
    own, whole = repository / model / str(version) / configs.CONFIG_FILE, config_path(repository, model)
    brought = configs.read(own) if own.is_file() else None
    renamed = brought is not None and before not in ("", model) and brought.name == before
    if brought is not None:
        brought.name = model if renamed else brought.name
        brought = _checked(brought, own, model, trusted=allow_code)
    present = None
    if whole.is_file():
        trusted = allow_code or _owned(repository, model, version)
        present = _checked(configs.read(whole), whole, model, trusted=trusted)
    first = present or brought
    both = None if first is None else normal(first)
    if present is not None and brought is not None:
        both = merged(normal(present), normal(brought), (), where=whole)
    return Settings(present=present, brought=brought, merged=both, renamed=renamed)


def own_config(settings: Settings, whole: configs.ModelConfig, folder: Path) -> configs.ModelConfig | None:
    """What `config.pbtxt` in the version's folder is to say; None where the one that is there says it.

    Args:
        settings: What `find` found.
        whole: The model's configuration with this version.
        folder: The version folder; label files of the model that are not in it are the model's own affair.
    """
    brought, present = settings.brought, settings.present
    version = int(folder.name)
    if brought is not None:
        same = not settings.renamed and configs.versions_of(brought) in ((), (version,))
        if same and (present is None or _runs(present) == _runs(brought)):
            return None
    own = type(whole).FromString(whole.SerializeToString())
    if present is not None:  # the two are compared when the version is promoted
        own.backend, own.platform = present.backend, present.platform
        own.default_model_filename = present.default_model_filename
    for tensor in own.output:
        if tensor.label_filename and not (folder / tensor.label_filename).is_file():
            tensor.label_filename = ""
    configs.set_versions(own, [version])
    return own


def format_of(config: configs.ModelConfig) -> str:
    """The format of the artefact that a configuration asks for; empty for a backend that is not known."""
    if config.platform == configs.ENSEMBLE:
        return configs.ENSEMBLE
    return FORMAT_OF.get(config.backend or _BACKEND_OF_PLATFORM.get(config.platform, ""), "")


def normal(config: configs.ModelConfig) -> configs.ModelConfig:
    """A copy that says in full what the configuration leaves to Triton: backend and file name."""
    whole = type(config).FromString(config.SerializeToString())
    if not whole.backend and whole.platform in _BACKEND_OF_PLATFORM:
        whole.backend = _BACKEND_OF_PLATFORM[whole.platform]
        whole.platform = ""
    if not whole.default_model_filename:
        whole.default_model_filename = _USUAL_FILE.get(format_of(whole), "")
    return whole


def spec_of(config: configs.ModelConfig) -> ModelSpec:
    """The tensors as the model file itself takes and gives them: without the axis that callers add to a scalar.

    Raises:
        RepositoryError: A tensor is reshaped to something else than a scalar.
    """
    outer = configs.spec_of(config)

    def inner(entry: Any, tensor: TensorSpec) -> TensorSpec:
        if not entry.HasField("reshape"):
            return tensor
        if list(entry.dims) == [1] and not entry.reshape.shape:
            return replace(tensor, dims=())
        raise RepositoryError(
            f"{config.name}: the configuration reshapes {tensor.name!r} to {list(entry.reshape.shape)}",
            why="a version is proved with the tensors that its file has; only scalars may be reshaped",
            fix="take 'reshape' out of config.pbtxt, and let the model reshape",
        )

    return replace(
        outer,
        inputs=tuple(map(inner, config.input, outer.inputs)),
        outputs=tuple(map(inner, config.output, outer.outputs)),
    )


def vet(config: configs.ModelConfig, model: str, where: Path) -> None:
    """Refuse a configuration from elsewhere that asks for more than tensors, batches and instances.

    Raises:
        UnsafeSourceError: It would make Triton read or run other files, or take the whole machine.
        ManifestError: It is another model's, or of a backend that is not known.
    """
    problem = _other_fields(config) or _odd_values(config)
    if problem:
        raise UnsafeSourceError(
            f"{_place(where)}: a configuration that was copied in may not have {problem}",
            why="it may describe tensors, batches and instances, and nothing that reads or runs other files",
            fix="take it out; if you trust whoever wrote it: --allow-code",
            path=str(where),
        )
    if config.name not in ("", model):
        raise ManifestError(
            f"{_place(where)} is the configuration of {config.name!r}",
            why=f"it was copied into the folder of {model!r}",
            fix=f"write name: {model!r} into it, or copy it into the folder of {config.name!r}",
            path=str(where),
        )
    if not (config.input and config.output) or not format_of(config):
        backends = ", ".join(FORMAT_OF)
        raise ManifestError(
            f"{_place(where)} is not complete",
            why=f"it needs input, output and one of the backends {backends}; it has {len(config.input)} inputs, "
            f"{len(config.output)} outputs and the backend {config.backend or config.platform or 'none'}",
            fix="complete it; 'modelport show' prints one of another model",
            path=str(where),
        )


def _checked(config: configs.ModelConfig, path: Path, model: str, *, trusted: bool) -> configs.ModelConfig:
    if not trusted:
        vet(config, model, path)
    config.name = model
    return config


def _owned(repository: Path, model: str, version: int) -> bool:
    """Whether the model's configuration is its owner's: another version of it was published here, or is served."""
    if any(placed.ours(repository, model, v) for v in version_numbers(repository, model) if v != version):
        return True
    running = connection.find(repository)
    return running is not None and bool(running.ready_versions(model))


def _runs(config: configs.ModelConfig) -> tuple[str, str]:
    return (config.backend or config.platform, config.default_model_filename)


def _other_fields(config: configs.ModelConfig) -> str:
    for path, allowed in _FIELDS.items():
        parts: list[Any] = [config]
        if path:
            value = getattr(config, path)
            parts = [value] if hasattr(value, "DESCRIPTOR") else list(value)
        for part in parts:
            found = [field.name for field, _ in part.ListFields() if field.name not in allowed]
            if found:
                return f"the field {' '.join(filter(None, (path, found[0])))!r}"
    return ""


def _odd_values(config: configs.ModelConfig) -> str:
    names = [config.default_model_filename, *(tensor.label_filename for tensor in config.output)]
    odd = [name for name in names if name and not _PLAIN.fullmatch(name)]
    if odd:
        return f"the file name {odd[0][:80]!r}"
    for key, value in config.parameters.items():
        if key not in _PARAMETERS or not _VALUE.fullmatch(value.string_value):
            return f"the parameter {key[:80]!r} with the value {value.string_value[:80]!r}"
    if sum(max(1, group.count) for group in config.instance_group) > MAX_INSTANCES:
        return f"more than {MAX_INSTANCES} instances"
    if config.max_batch_size > MAX_BATCH_SIZE:
        return f"batches of more than {MAX_BATCH_SIZE}"
    if (config.backend or config.platform) and format_of(config) not in ("onnx", "torchscript"):
        return f"the backend {(config.backend or config.platform)[:80]!r}"
    return ""


def _place(path: Path) -> str:
    return "/".join(path.parts[-3:]) if path.parent.name.isdecimal() else "/".join(path.parts[-2:])
