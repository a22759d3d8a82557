"""The Python-based backend `pytorch`: serves an unmodified `backend: "pytorch"` TorchScript model.

It honours and refuses what the compiled backend of the same name does. Runs inside Triton's Python stub. Only
TorchScript is loaded, through `torch.jit.load`; pickles are never opened.

On a GPU a call's inputs are copied there once. Answers come back in one copy for all requests of the call; with the
Python backend's own parameter `FORCE_CPU_ONLY_INPUT_TENSORS` "no", inputs that another model or CUDA shared memory left
on the GPU are used where they are, and answers stay there too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import modelport_serving as serving
import modelport_torch  # noqa: F401 - before torch, which it makes lighter
import numpy as np
import torch
import triton_python_backend_utils as pb_utils
from modelport_config import Config, ConfigError, read_config
from torch.utils import dlpack

_TYPES = {
    "TYPE_BOOL": torch.bool,
    "TYPE_UINT8": torch.uint8,
    "TYPE_INT8": torch.int8,
    "TYPE_INT16": torch.int16,
    "TYPE_INT32": torch.int32,
    "TYPE_INT64": torch.int64,
    "TYPE_FP16": torch.float16,
    "TYPE_FP32": torch.float32,
    "TYPE_FP64": torch.float64,
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_STRING = "TYPE_STRING"
_STAY = "FORCE_CPU_ONLY_INPUT_TENSORS"  # "no" leaves tensors on the GPU; Triton itself refuses other words than yes, no


class TorchTensors:
    """Tensors through DLPack: views of Triton's memory, on the CPU or a GPU. Texts are numpy arrays.

    Answers that leave the GPU anyway are arrays too: many small slices of one cost less than those of a tensor.
    """

    def __init__(self, config: Config, device: torch.device) -> None:
        self._device = device
        self._arrays = serving.Arrays()
        self._texts = {io.name for io in (*config.inputs, *config.outputs) if io.data_type == _STRING}

    def read(self, tensor: Any) -> Any:
        """A view, which keeps the tensor's memory alive."""
        return tensor.as_numpy() if tensor.name() in self._texts else dlpack.from_dlpack(tensor.to_dlpack())

    def join(self, parts: Sequence[Any]) -> Any:
        """A copy: in pinned memory on the way to a GPU, on the GPU itself where one is there already."""
        if isinstance(parts[0], np.ndarray):
            return self._arrays.join(parts)
        if self._device.type != "cuda":
            return torch.cat(tuple(parts))
        if any(part.is_cuda for part in parts):
            return torch.cat([part.to(self._device, non_blocking=True) for part in parts])
        shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
        return torch.cat(tuple(parts), out=torch.empty(shape, dtype=parts[0].dtype, pin_memory=True))

    def split(self, whole: Any, rows: Sequence[int]) -> Sequence[Any]:
        """Views."""
        parts: Sequence[Any] = self._arrays.split(whole, rows)
        return parts

    def write(self, name: str, value: Any) -> Any:
        """No copy. What the GPU still computes must have been waited for."""
        if isinstance(value, np.ndarray):
            return self._arrays.write(name, value)
        return pb_utils.Tensor.from_dlpack(name, dlpack.to_dlpack(value))  # type: ignore[attr-defined]


class TritonPythonModel:
    """One instance of one model version."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the model; an exception is the reason that the load call returns."""
        try:
            config = read_config(args, "model.pt")
            self._device = _device(config)
            self._guard = _apply_parameters(config, self._device)
            self._clean = self._device.type == "cuda" and bool(config.flag("ENABLE_CACHE_CLEANING"))
            self._module = _open(config, self._device, self._guard)
            _check_types(config)
            self._dictionary, self._order = _input_order(config, self._module)
            self._places = _output_places(config)
        except Exception as exc:
            raise serving.refuse(exc) from exc
        self._strings = {io.name for io in config.inputs if io.data_type == _STRING}
        self._dtypes = {io.name: _TYPES.get(io.data_type) for io in config.outputs}
        self._stay = config.parameters.get(_STAY) == "no"
        self._answer = serving.Answerer(config, self._run, TorchTensors(config, self._device))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer the requests that Triton hands over together."""
        responses: list[Any] = self._answer(requests)
        return responses

    def _run(self, feed: serving.Feed, wanted: Sequence[str]) -> dict[str, Any]:
        with self._guard():
            values = {name: self._value(name, feed[name]) for name in self._order}
            result = self._module(values) if self._dictionary else self._module(*values.values())
            found = result if isinstance(result, tuple) else (result,)
            answers = {name: self._tensor(name, found) for name in wanted}
        if self._stay and self._device.type == "cuda":
            # A capsule of DLPack does not tell Triton what the GPU has yet to do.
            torch.cuda.current_stream(self._device).synchronize()
        if self._clean:
            torch.cuda.empty_cache()
        return answers

    def _value(self, name: str, tensor: Any) -> Any:
        if name in self._strings:
            return serving.decode(name, tensor)
        return tensor.to(self._device, non_blocking=True)

    def _tensor(self, name: str, found: Sequence[Any]) -> Any:
        place, dtype = self._places[name], self._dtypes[name]
        if place >= len(found):
            raise ValueError(f"output '{name}' is number {place}, but the model gives {len(found)} outputs")
        value = found[place]
        if isinstance(value, torch.Tensor) and dtype is not None:
            if value.dtype != dtype:
                provided = _NAMES.get(value.dtype, str(value.dtype))
                raise TypeError(
                    f"configuration expects datatype {_NAMES[dtype]} for output '{name}', model provides {provided}"
                )
            if value.dim() == 0:
                raise ValueError(f"output '{name}' is a scalar, which is not supported")
            return value.detach().contiguous() if self._stay else value.cpu().numpy()
        if isinstance(value, list) and dtype is None and all(isinstance(item, str) for item in value):
            return np.array(value, dtype=object)
        expected = "List[str]" if dtype is None else "Tensor"
        raise TypeError(f"output '{name}' must be {expected}, the model gives {type(value).__name__}")


def _device(config: Config) -> torch.device:
    if config.kind != "GPU":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        built = f"is built for CUDA {torch.version.cuda} but finds no GPU" if torch.version.cuda else "has no CUDA"
        serving.warn(config.without_gpu(f"the installed torch {torch.__version__} {built}"))
        return torch.device("cpu")
    if config.device >= torch.cuda.device_count():
        raise ConfigError(f"the instance is for GPU {config.device}, and torch sees {torch.cuda.device_count()}")
    torch.cuda.set_device(config.device)
    return torch.device("cuda", config.device)


def _apply_parameters(config: Config, device: torch.device) -> type[AbstractContextManager[Any]]:
    """Set torch up as the parameters say; the guard in which the model is loaded and run."""
    optimized = not config.flag("DISABLE_OPTIMIZED_EXECUTION")
    inference = config.flag("INFERENCE_MODE") is not False
    torch._C._set_graph_executor_optimize(optimized)
    torch.backends.cudnn.enabled = not config.flag("DISABLE_CUDNN")
    for key, apply in (
        ("ENABLE_JIT_PROFILING", torch._C._jit_set_profiling_mode),
        ("ENABLE_JIT_EXECUTOR", torch._C._jit_set_profiling_executor),
        ("ENABLE_TENSOR_FUSER", torch._C._jit_set_texpr_fuser_enabled),
    ):
        wanted = config.flag(key)
        if wanted is not None:
            apply(wanted)
            serving.log(f"model '{config.name}': {key} is {wanted}")
    if config.flag("ENABLE_WEIGHT_SHARING") and config.instances > 1:
        serving.warn(f"model '{config.name}': each instance is a process of its own; weights are not shared")
    config.flag("ENABLE_CACHE_CLEANING")
    intra, inter = config.number("INTRA_OP_THREAD_COUNT"), config.number("INTER_OP_THREAD_COUNT")
    torch.set_num_threads(intra if intra > 0 else config.threads())
    torch.set_num_interop_threads(inter if inter > 0 else config.threads())
    serving.log(
        f"torch {torch.__version__}, model '{config.name}' version {config.folder.name} on {device}: "
        f"optimized execution {optimized}, inference mode {inference}, "
        f"{torch.get_num_threads()} intra-op threads, {torch.get_num_interop_threads()} inter-op threads"
    )
    return torch.inference_mode if inference else torch.no_grad


def _open(config: Config, device: torch.device, guard: type[AbstractContextManager[Any]]) -> torch.jit.ScriptModule:
    with guard():
        try:
            module: torch.jit.ScriptModule = torch.jit.load(str(config.file), map_location=device)  # type: ignore[no-untyped-call]
        except RuntimeError as exc:
            raise ConfigError(f"'{config.file.name}' is not a TorchScript model: {serving.plain(exc)}") from exc
        return module


def _check_types(config: Config) -> None:
    for word, tensors in (("input", config.inputs), ("output", config.outputs)):
        for io in tensors:
            if io.data_type != _STRING and io.data_type not in _TYPES:
                raise ConfigError(f"unsupported datatype {io.data_type} for {word} '{io.name}'")
            if io.data_type == _STRING and len(io.full_dims) > 1:
                raise ConfigError(f"{word} '{io.name}': strings are served as a list of one dimension only")


def _input_order(config: Config, module: torch.jit.ScriptModule) -> tuple[bool, list[str]]:
    """Whether `forward` takes one dictionary, and the input names in the order of its arguments."""
    arguments = module._c._get_method("forward").schema.arguments[1:]
    names = [io.name for io in config.inputs]
    if len(arguments) == 1 and isinstance(arguments[0].type, torch._C.DictType):
        return True, names
    for argument in arguments:
        if not isinstance(argument.type, torch._C.TensorType | torch._C.ListType):
            raise ConfigError(
                f"forward's argument '{argument.name}' is of type {argument.type}; only tensors, lists of strings, or "
                "one dictionary of tensors are served"
            )
    if len(arguments) != len(names):
        raise ConfigError(f"configuration expects {len(names)} inputs, model provides {len(arguments)}")
    given = [argument.name for argument in arguments]
    places = [given.index(name) for name in names] if set(names) <= set(given) else _indices(names)
    if sorted(places) != list(range(len(names))):
        raise ConfigError(f"the inputs {', '.join(names)} do not fit forward's arguments {', '.join(given)}")
    order = [name for _, name in sorted(zip(places, names, strict=True))]
    _check_lists(config, dict(zip(order, arguments, strict=True)))
    return False, order


def _check_lists(config: Config, arguments: Mapping[str, Any]) -> None:
    for io in config.inputs:
        is_list = isinstance(arguments[io.name].type, torch._C.ListType)
        if is_list != (io.data_type == _STRING):
            raise ConfigError(
                f"input '{io.name}' is {io.data_type}, but forward's argument is of type {arguments[io.name].type}"
            )


def _output_places(config: Config) -> dict[str, int]:
    """Output name -> its place in what `forward` returns."""
    names = [io.name for io in config.outputs]
    if not names:
        raise ConfigError("model configuration must contain at least one output")
    return dict(zip(names, _indices(names), strict=True))


def _indices(names: Sequence[str]) -> list[int]:
    """The numbers in names of the form `NAME__0`; where one name is of another form, the order of the names."""
    endings = [name.partition("__") for name in names]
    if all(mark and end.isdecimal() for _, mark, end in endings):
        return [int(end) for _, _, end in endings]
    return list(range(len(names)))
