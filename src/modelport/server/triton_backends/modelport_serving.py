"""What the two Python-based backends share: the model's configuration, batching, errors, threads.

It runs in Triton's Python stub as a plain module beside a backend's `model.py`. A backend reads its configuration
with `read_config`, refuses what it cannot serve with `refuse`, and answers every `execute` call with `Answerer`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

Feed = dict[str, Any]  # input name -> numpy array
Run = Callable[[Feed, Sequence[str]], dict[str, Any]]  # (feed, wanted outputs) -> output name -> numpy array

_TRUE, _FALSE = ("true", "on", "1"), ("false", "off", "0")
_PATHS = re.compile(r"(?<![\w.])/[\w.+@-]+(?:/[\w.+@-]+)+(?::\d+)?:?")
_SYMBOLS = re.compile(r"\b(?:onnxruntime|c10|at|torch)::[\w:<>~&*, ]+\([^)]*\)\s*")


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
        return len(shape) == len(full) and all(want in (-1, got) for want, got in zip(full, shape))


@dataclass(frozen=True)
class Config:
    """A model configuration as far as the backends need it.

    Attributes:
        name: Model name.
        folder: The version's folder.
        file: The artefact: `default_model_filename`, or the backend's usual name.
        kind: `CPU` or `GPU`.
        device: Number of the GPU.
        batched: Whether `max_batch_size` is above 0.
        inputs: In the order of the configuration.
        outputs: In the order of the configuration.
        parameters: The `parameters` of the configuration.
        optimization: Its `optimization` part.
        op_libraries: Its `model_operations { op_library_filename }`.
        instances: Number of instances of this model.
    """

    name: str
    folder: Path
    file: Path
    kind: str
    device: int
    batched: bool
    inputs: tuple[IO, ...]
    outputs: tuple[IO, ...]
    parameters: Mapping[str, str]
    optimization: Mapping[str, Any]
    op_libraries: tuple[str, ...]
    instances: int

    def flag(self, key: str) -> bool | None:
        """A boolean parameter; None when it is not there."""
        text = self.parameters.get(key)
        return None if text is None else parse_bool(key, text)

    def number(self, key: str) -> int:
        """A whole-number parameter; 0 when it is not there."""
        return parse_int(key, self.parameters.get(key, "0"))

    def threads(self) -> int:
        """Threads for one instance so that all instances of the model together use no more than the cores."""
        return max(1, cores() // max(1, self.instances))


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
    batched = raw.get("max_batch_size", 0) > 0
    folder = Path(args["model_repository"], args["model_version"])
    return Config(
        name=args["model_name"],
        folder=folder,
        file=_artefact(folder, raw.get("default_model_filename") or usual_file, usual_file),
        kind=args["model_instance_kind"],
        device=int(args["model_instance_device_id"]),
        batched=batched,
        inputs=tuple(_read_io(io, batched) for io in raw.get("input", ())),
        outputs=tuple(_read_io(io, batched) for io in raw.get("output", ())),
        parameters={key: value.get("string_value", "") for key, value in raw.get("parameters", {}).items()},
        optimization=raw.get("optimization") or {},
        op_libraries=tuple((raw.get("model_operations") or {}).get("op_library_filename", ())),
        instances=sum(max(1, group.get("count", 1)) for group in raw.get("instance_group", ())),
    )


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


def cores() -> int:
    """Cores that this process may use: its affinity, and the CPU quota of its control group."""
    limits = [float(len(os.sched_getaffinity(0)))]
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            limits += _quotas(Path("/sys/fs/cgroup"), path, ("cpu.max",))
        elif "cpu" in controllers.split(","):
            limits += _quotas(Path("/sys/fs/cgroup/cpu"), path, ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
    return max(1, int(min(limits)))


def _quotas(root: Path, path: str, files: Sequence[str]) -> list[float]:
    """The CPU quotas, in cores, of a control group and those above it."""
    found = []
    group = root / path.strip("/")
    for folder in (group, *group.parents):
        try:
            words = " ".join((folder / file).read_text() for file in files).split()
        except OSError:
            words = []
        if len(words) == 2 and words[0] not in ("max", "-1") and int(words[1]) > 0:
            found.append(int(words[0]) / int(words[1]))
        if folder == root:
            break
    return found


def plain(error: BaseException) -> str:
    """One line about an error, without tracebacks, file paths and C++ signatures: callers may see it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = lines[-1] if any(line.startswith("Traceback") for line in lines) else lines[0]
    return " ".join(_PATHS.sub("", _SYMBOLS.sub("", line)).split())[:500]


def log(text: str) -> None:
    """Write a line to the server's log (when loading; never per request)."""
    pb_utils.Logger.log_info(text)


def warn(text: str) -> None:
    """Write a warning to the server's log (when loading; never per request)."""
    pb_utils.Logger.log_warn(text)


def refuse(error: Exception) -> Exception:
    """The exception with which `initialize` refuses a model; its text is what the load call returns."""
    return pb_utils.TritonModelException(str(error) if isinstance(error, ConfigError) else plain(error))  # type: ignore[no-any-return]


def decode(name: str, array: Any) -> list[str]:
    """The texts of a BYTES tensor, in C order."""
    try:
        return [item.decode() if isinstance(item, bytes) else str(item) for item in array.ravel()]
    except UnicodeDecodeError as exc:
        raise ValueError(f"input '{name}' holds text that is not UTF-8") from exc


class Answerer:
    """Answers the requests of one `execute` call with as few runs of the model as possible.

    Requests of equal sample shapes are joined along the batch axis; a single one is not copied. When a joined run
    fails, each request runs alone, so that only the one that makes the model fail gets the error.

    Args:
        config: The model's configuration.
        run: Runs the model on one batch. It gets the wanted output names and returns at least those.
    """

    def __init__(self, config: Config, run: Run) -> None:
        self._config = config
        self._run = run
        self._outputs = {io.name: io for io in config.outputs}
        self._names = list(self._outputs)

    def __call__(self, requests: Sequence[Any]) -> list[Any]:
        """One response per request, in their order."""
        feeds = [{tensor.name(): tensor.as_numpy() for tensor in request.inputs()} for request in requests]
        if len(requests) == 1:
            return [self._alone(requests[0], feeds[0])]
        responses: list[Any] = [None] * len(requests)
        for group in self._groups(feeds):
            if len(group) == 1:
                responses[group[0]] = self._alone(requests[group[0]], feeds[group[0]])
            else:
                answers = self._together([requests[i] for i in group], [feeds[i] for i in group])
                for i, answer in zip(group, answers):
                    responses[i] = answer
        return responses

    def _groups(self, feeds: Sequence[Feed]) -> list[list[int]]:
        """Numbers of the requests that can share a run."""
        if not self._config.batched:
            return [[i] for i in range(len(feeds))]
        groups: dict[Any, list[int]] = {}
        for i, feed in enumerate(feeds):
            groups.setdefault(tuple((name, array.shape[1:]) for name, array in feed.items()), []).append(i)
        return list(groups.values())

    def _wanted(self, request: Any) -> list[str]:
        if len(self._names) == 1:
            return self._names
        names = request.requested_output_names()
        return self._names if len(names) == len(self._names) else [name for name in self._names if name in names]

    def _alone(self, request: Any, feed: Feed) -> Any:
        try:
            wanted = self._wanted(request)
            answers = self._run(feed, wanted)
            self._check(answers, wanted, self._rows(feed))
            return pb_utils.InferenceResponse([pb_utils.Tensor(name, answers[name]) for name in wanted])
        except Exception as exc:  # whatever the model raised is this request's answer
            return _failure(self._config.name, exc)

    def _together(self, requests: Sequence[Any], feeds: Sequence[Feed]) -> list[Any]:
        rows = [self._rows(feed) for feed in feeds]
        try:
            feed = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
            answers = self._run(feed, self._names)
            self._check(answers, self._names, sum(rows))
        except Exception:  # which request it was shows when each runs alone
            return [self._alone(request, feed) for request, feed in zip(requests, feeds)]
        responses, start = [], 0
        for request, count in zip(requests, rows):
            end = start + count
            tensors = [pb_utils.Tensor(name, answers[name][start:end]) for name in self._wanted(request)]
            responses.append(pb_utils.InferenceResponse(tensors))
            start = end
        return responses

    def _rows(self, feed: Feed) -> int:
        for array in feed.values():
            return int(array.shape[0]) if self._config.batched else 0
        return 0

    def _check(self, answers: Mapping[str, Any], wanted: Sequence[str], rows: int) -> None:
        for name in wanted:
            output, shape = self._outputs[name], answers[name].shape
            if not output.fits(shape) or (output.batched and shape[0] != rows):
                expected = list((rows, *output.dims) if output.batched else output.dims)
                raise ValueError(f"output '{name}' has shape {list(shape)}, expected {expected}")


def _failure(model: str, error: Exception) -> Any:
    text = f"model '{model}' failed: {plain(error)}"
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(text))
