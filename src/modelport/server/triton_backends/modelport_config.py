"""What the two Python-based backends read: the model's configuration, and the cores that they may use.

It runs in Triton's Python stub as a plain module beside a backend's `model.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import modelport_cores  # a copy of modelport._cores

_TRUE, _FALSE = ("true", "on", "1"), ("false", "off", "0")


class ConfigError(Exception):
    """The model or its configuration cannot be served; its text is the reason that the load call returns."""


@dataclass(frozen=True)
class IO:
    """One input or output of the configuration.

    Attributes:
        name: Tensor name.
        data_type: Such as `TYPE_FP32`.
        dims: What the model sees of one sample: `reshape`'s shape where there is one, else `dims`.
        batched: Whether a batch axis comes before `dims`.
        optional: Whether a request may leave it out.
    """

    name: str
    data_type: str
    dims: tuple[int, ...]
    batched: bool
    optional: bool = False

    @property
    def full_dims(self) -> tuple[int, ...]:
        """`dims` with -1 for the batch axis in front where there is one."""
        return (-1, *self.dims) if self.batched else self.dims

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of this shape, with its batch axis, is one."""
        full = self.full_dims
        return len(shape) == len(full) and all(want in (-1, got) for want, got in zip(full, shape, strict=True))


@dataclass(frozen=True)
class Config:
    """A model configuration as far as the backends need it.

    Attributes:
        name: Model name.
        folder: The version's folder.
        file: The artefact: `default_model_filename`, or the backend's usual name.
        kind: `CPU` or `GPU`. Triton makes `GPU` of KIND_AUTO where it sees one.
        device: Number of the GPU.
        gpu_only: Whether the configuration itself says KIND_GPU.
        max_batch_size: Most rows of one run; 0 without a batch axis.
        inputs: In the order of the configuration.
        outputs: In the order of the configuration.
        parameters: The `parameters` of the configuration.
        optimization: Its `optimization` part.
        op_libraries: Its `model_operations { op_library_filename }`.
        instances: Number of instances of this model.
        queue_policy: Whether the configuration bounds Triton's queue itself.
    """

    name: str
    folder: Path
    file: Path
    kind: str
    device: int
    gpu_only: bool
    max_batch_size: int
    inputs: tuple[IO, ...]
    outputs: tuple[IO, ...]
    parameters: Mapping[str, str]
    optimization: Mapping[str, Any]
    op_libraries: tuple[str, ...]
    instances: int
    queue_policy: bool

    @property
    def batched(self) -> bool:
        """Whether there is a batch axis."""
        return self.max_batch_size > 0

    def without_gpu(self, reason: str) -> str:
        """The warning that a GPU instance runs on the CPU.

        Args:
            reason: Why there is no GPU for it.

        Raises:
            ConfigError: The configuration says KIND_GPU, so it must not.
        """
        if self.gpu_only:
            raise ConfigError(f"instance_group is KIND_GPU, but {reason}; with KIND_AUTO the model runs on the CPU")
        return f"model '{self.name}': {reason}; it runs on the CPU"

    def flag(self, key: str) -> bool | None:
        """A boolean parameter; None when it is not there."""
        text = self.parameters.get(key)
        return None if text is None else parse_bool(key, text)

    def number(self, key: str) -> int:
        """A whole-number parameter; 0 when it is not there."""
        return parse_int(key, self.parameters.get(key, "0"))

    def threads(self) -> int:
        """Threads for one instance so that all instances of the model together use no more than the cores."""
        total: int = modelport_cores.usable()
        return max(1, total // max(1, self.instances))


def parse_bool(key: str, text: str) -> bool:
    """Triton's way to write a boolean: true, on, 1, false, off, 0 in any case."""
    word = text.lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ConfigError(f"parameter '{key}' is '{text}'; it must be one of {', '.join(_TRUE + _FALSE)}")


def parse_int(key: str, text: str) -> int:
    """A whole number."""
    if re.fullmatch(r"[+-]?[0-9]{1,9}", text.strip()):
        return int(text)
    raise ConfigError(f"parameter '{key}' is '{text}'; it must be a whole number")


def read_config(args: Mapping[str, str], usual_file: str) -> Config:
    """Read the arguments of `initialize`.

    Args:
        args: As Triton gives them; all values are strings.
        usual_file: The artefact's name where the configuration names none.

    Raises:
        ConfigError: The configuration asks for something that these backends do not serve.
    """
    raw = json.loads(args["model_config"])
    _check_served(raw)
    max_batch_size = int(raw.get("max_batch_size", 0))
    batched = max_batch_size > 0
    folder = Path(args["model_repository"], args["model_version"])
    return Config(
        name=args["model_name"],
        folder=folder,
        file=_artefact(folder, raw.get("default_model_filename") or usual_file, usual_file),
        kind=args["model_instance_kind"],
        device=int(args["model_instance_device_id"]),
        gpu_only=_says_gpu(Path(args["model_repository"], "config.pbtxt")),
        max_batch_size=max_batch_size,
        inputs=tuple(_read_io(io, batched) for io in raw.get("input", ())),
        outputs=tuple(_read_io(io, batched) for io in raw.get("output", ())),
        parameters={key: value.get("string_value", "") for key, value in raw.get("parameters", {}).items()},
        optimization=raw.get("optimization") or {},
        op_libraries=tuple((raw.get("model_operations") or {}).get("op_library_filename", ())),
        instances=sum(
            max(1, group.get("count", 1)) * max(1, len(group.get("gpus") or ()))
            for group in raw.get("instance_group", ())
        ),
        queue_policy=bool((raw.get("dynamic_batching") or {}).get("default_queue_policy", {}).get("max_queue_size")),
    )


def _says_gpu(path: Path) -> bool:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return False
    return re.search(r"^[^#\n]*\bKIND_GPU\b", text, re.MULTILINE) is not None


def _check_served(raw: Mapping[str, Any]) -> None:
    for key, what in (("batch_input", "batch_input"), ("batch_output", "batch_output")):
        if raw.get(key):
            raise ConfigError(f"'{what}' is not served by the embedded server; use the container")
    if "sequence_batching" in raw:
        raise ConfigError("'sequence_batching' is not served by the embedded server; use the container")
    if (raw.get("model_transaction_policy") or {}).get("decoupled"):
        raise ConfigError("decoupled models need a backend of their own; remove 'model_transaction_policy'")
    for io in raw.get("input", ()):
        if io.get("allow_ragged_batch"):
            raise ConfigError(f"input '{io['name']}': 'allow_ragged_batch' is not served by the embedded server")


def _read_io(io: Mapping[str, Any], batched: bool) -> IO:
    dims = io["reshape"].get("shape", ()) if "reshape" in io else io["dims"]
    return IO(io["name"], io["data_type"], tuple(int(d) for d in dims), batched, bool(io.get("optional")))


def _artefact(folder: Path, name: str, usual_file: str) -> Path:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ConfigError(f"default_model_filename '{name}' is outside the version's folder")
    path = folder / name
    if path.is_dir():
        path = path / usual_file
    if not path.is_file():
        raise ConfigError(f"the file '{name}' is missing in version {folder.name}")
    return path
