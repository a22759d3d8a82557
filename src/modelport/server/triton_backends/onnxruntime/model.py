"""The Python-based backend `onnxruntime`: serves an unmodified `backend: "onnxruntime"` model.

It honours and refuses what the compiled backend of the same name does. Runs inside Triton's Python stub.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import modelport_serving as serving
import numpy as np
import onnxruntime as ort
from modelport_config import IO, Config, ConfigError, parse_bool, read_config

_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    0: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
}
_SHRINKAGE = "memory.enable_memory_arena_shrinkage"
_STAY = "FORCE_CPU_ONLY_INPUT_TENSORS"  # with "no", inputs may be in a GPU's memory
_DEVICE_ALLOCATOR = "session.use_device_allocator_for_initializers"
# The compiled backend lets these keys of the `cuda` accelerator be overwritten by its own defaults; as `parameters`
# of the model they work.
_OVERWRITTEN = ("cudnn_conv_algo_search", "gpu_mem_limit", "arena_extend_strategy", "do_copy_in_default_stream")


class Anywhere(serving.Arrays):  # type: ignore[misc]
    """Arrays of inputs that may be in a GPU's memory, from where ONNX Runtime copies them."""

    def __init__(self, config: Config) -> None:
        self._texts = {io.name for io in config.inputs if io.data_type == "TYPE_STRING"}

    def read(self, tensor: Any) -> Any:
        """A view, or a copy of what was in a GPU's memory."""
        if tensor.name() in self._texts:
            return tensor.as_numpy()
        return ort.OrtValue.from_dlpack(tensor.to_dlpack()).numpy()


class TritonPythonModel:
    """One instance of one model version."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the model; an exception is the reason that the load call returns."""
        try:
            config = read_config(args, "model.onnx")
            self._session = _open(config)
            self._run_options = _run_options(config)
            inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
            optional = {node.name: node for node in self._session.get_overridable_initializers()}
            _check_inputs(config, inputs, optional)
            _check_outputs(config, outputs)
        except Exception as exc:
            raise serving.refuse(exc) from exc
        self._strings = [io.name for io in config.inputs if io.data_type == "TYPE_STRING"]
        model_rank = {node.name: len(node.shape) for node in (*inputs, *optional.values(), *outputs)}
        self._scalars = [io.name for io in config.inputs if io.full_dims and not model_rank[io.name]]
        self._scalar_outputs = {
            io.name: io.full_dims for io in config.outputs if io.full_dims and not model_rank[io.name]
        }
        stay = config.parameters.get(_STAY) == "no"
        self._answer = serving.Answerer(config, self._run, Anywhere(config) if stay else None)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer the requests that Triton hands over together."""
        responses: list[Any] = self._answer(requests)
        return responses

    def _run(self, feed: serving.Feed, wanted: Sequence[str]) -> dict[str, Any]:
        for name in self._strings:
            if name in feed:
                texts = serving.decode(name, feed[name])
                feed[name] = np.array(texts, dtype=object).reshape(feed[name].shape)
        for name in self._scalars:
            if name in feed:  # an optional one may be left out
                feed[name] = feed[name].reshape(())
        answers = dict(zip(wanted, self._session.run(wanted, feed, self._run_options), strict=True))
        for name, shape in self._scalar_outputs.items():
            if name in answers:
                answers[name] = np.asarray(answers[name]).reshape(shape)
        return answers


def _open(config: Config) -> ort.InferenceSession:
    options = ort.SessionOptions()
    level = int((config.optimization.get("graph") or {}).get("level", 0))
    options.graph_optimization_level = _LEVELS.get(level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    mode = config.number("execution_mode")
    if mode not in (0, 1):
        raise ConfigError(f"parameter 'execution_mode' is '{mode}'; it must be 0 (sequential) or 1 (parallel)")
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL if mode else ort.ExecutionMode.ORT_SEQUENTIAL
    intra, inter = config.number("intra_op_thread_count"), config.number("inter_op_thread_count")
    options.intra_op_num_threads = intra if intra > 0 else config.threads()
    options.inter_op_num_threads = inter if inter > 0 else config.threads()
    # Threads that spin while they wait take the cores from Triton's own threads.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    arena, pattern = config.flag("enable_mem_arena"), config.flag("enable_mem_pattern")
    if arena is not None:
        options.enable_cpu_mem_arena = arena
    if pattern is not None:
        options.enable_mem_pattern = pattern
    if _DEVICE_ALLOCATOR in config.parameters:
        options.add_session_config_entry(_DEVICE_ALLOCATOR, config.parameters[_DEVICE_ALLOCATOR])
    for library in config.op_libraries:
        options.register_custom_ops_library(library)
    if config.kind == "GPU" and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # CUDA and cuDNN out of their Python packages
    providers = _providers(config)
    session = ort.InferenceSession(str(config.file), options, providers=providers)
    running = session.get_providers()
    for name, _ in providers:
        if name not in running:
            _missing(config, name, f"{name} did not start")
    serving.log(
        f"onnxruntime {ort.__version__}, model '{config.name}' version {config.folder.name}: "
        f"graph level {options.graph_optimization_level.name}, {options.execution_mode.name}, "
        f"{options.intra_op_num_threads} intra-op threads, {options.inter_op_num_threads} inter-op threads, "
        f"memory arena {options.enable_cpu_mem_arena}, memory pattern {options.enable_mem_pattern}, "
        f"providers {', '.join(running)}"
    )
    return session


def _run_options(config: Config) -> ort.RunOptions:
    options = ort.RunOptions()
    options.log_severity_level = 4  # a failing request is answered; it does not also fill the log
    text = config.parameters.get(_SHRINKAGE)
    if text is None:
        return options
    if not re.fullmatch(r"(cpu|gpu):\d+(;(cpu|gpu):\d+)*", text):
        raise ConfigError(f"parameter '{_SHRINKAGE}' is '{text}'; it must look like 'cpu:0' or 'cpu:0;gpu:0'")
    options.add_run_config_entry(_SHRINKAGE, text)
    return options


def _providers(config: Config) -> list[tuple[str, dict[str, str]]]:
    """ONNX Runtime's execution providers for the instance's kind and the configuration's accelerators."""
    wanted = config.optimization.get("execution_accelerators") or {}
    gpu = {item["name"]: item.get("parameters", {}) for item in wanted.get("gpu_execution_accelerator", ())}
    cpu = {item["name"]: item.get("parameters", {}) for item in wanted.get("cpu_execution_accelerator", ())}
    for name in (*(name for name in gpu if name not in ("cuda", "tensorrt")), *(n for n in cpu if n != "openvino")):
        raise ConfigError(f"unknown Execution Accelerator '{name}' is requested")
    found: list[tuple[str, dict[str, str]]] = []
    if config.kind == "GPU":
        if "tensorrt" in gpu:
            found.append(("TensorrtExecutionProvider", _tensorrt(config, gpu["tensorrt"])))
        found.append(("CUDAExecutionProvider", _cuda(config, gpu.get("cuda", {}))))
    if "openvino" in cpu:
        found.append(("OpenVINOExecutionProvider", {"device_type": "CPU"}))
    have = ort.get_available_providers()
    for name, _ in found:
        if name not in have:
            _missing(config, name, f"the installed onnxruntime has no {name}")
    return [*(item for item in found if item[0] in have), ("CPUExecutionProvider", {})]


def _missing(config: Config, provider: str, reason: str) -> None:
    """Without an accelerator the answers are the same; without CUDA a model that must run on a GPU is refused."""
    if provider == "CUDAExecutionProvider":
        serving.warn(config.without_gpu(reason))
    else:
        serving.warn(f"model '{config.name}': {reason}; the answers come without it")


def _cuda(config: Config, parameters: Mapping[str, str]) -> dict[str, str]:
    options = {key: value for key, value in parameters.items() if key not in _OVERWRITTEN}
    for key in parameters:
        if key in _OVERWRITTEN:
            serving.warn(
                f"model '{config.name}': '{key}' has no effect in the cuda accelerator; write it under 'parameters'"
            )
    for key in ("use_ep_level_unified_stream",):
        if key in options:
            options[key] = str(int(parse_bool(key, options[key])))
    options |= _choice(config, "cudnn_conv_algo_search", ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"))
    options |= _choice(config, "arena_extend_strategy", ("kNextPowerOfTwo", "kSameAsRequested"))
    for key in ("gpu_mem_limit", "do_copy_in_default_stream"):
        if key in config.parameters:
            options[key] = config.parameters[key]
    return {**options, "device_id": str(config.device)}


def _choice(config: Config, key: str, names: Sequence[str]) -> dict[str, str]:
    number = config.number(key)
    if not 0 <= number < len(names):
        raise ConfigError(f"unsupported {key} value '{number}' is requested")
    return {key: names[number]}


def _tensorrt(config: Config, parameters: Mapping[str, str]) -> dict[str, str]:
    options = {"device_id": str(config.device)}
    renamed = {
        "max_workspace_size_bytes": "trt_max_workspace_size",
        "int8_calibration_table_name": "trt_int8_calibration_table_name",
        "int8_use_native_calibration_table": "trt_int8_use_native_calibration_table",
    }
    modes = {"FP32": "", "FP16": "trt_fp16_enable", "BF16": "trt_bf16_enable", "INT8": "trt_int8_enable"}
    for key, value in parameters.items():
        if key == "precision_mode":
            if value not in modes:
                raise ConfigError(f"unsupported precision mode '{value}' is requested")
            if modes[value]:
                options[modes[value]] = "1"
        elif key in renamed or key.startswith("trt_"):
            options[renamed.get(key, key)] = value
        else:
            raise ConfigError(f"unknown parameter '{key}' is provided for TensorRT Execution Accelerator")
    return options


def _check_inputs(config: Config, nodes: Sequence[Any], optional: Mapping[str, Any]) -> None:
    required = [io for io in config.inputs if not io.optional]
    if len(required) != len(nodes):
        raise ConfigError(f"configuration expects {len(required)} inputs, model provides {len(nodes)}")
    known = {**optional, **{node.name: node for node in nodes}}
    for io in config.inputs:
        if io.optional and io.batched:
            raise ConfigError(f"optional input '{io.name}' is not supported for models that support batching")
        _check_tensor(io, known, "input", exact=False)


def _check_outputs(config: Config, nodes: Sequence[Any]) -> None:
    known = {node.name: node for node in nodes}
    for io in config.outputs:
        _check_tensor(io, known, "output", exact=True)


def _check_tensor(io: IO, known: Mapping[str, Any], word: str, *, exact: bool) -> None:
    node = known.get(io.name)
    if node is None:
        raise ConfigError(f"unexpected {word} '{io.name}', the model's are: {', '.join(sorted(known))}")
    provided = _TYPES.get(node.type, node.type)
    if provided != io.data_type:
        raise ConfigError(
            f"configuration expects datatype {io.data_type} for {word} '{io.name}', model provides {provided}"
        )
    shape = tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in node.shape)
    if not shape:
        if io.batched or any(dim != 1 for dim in io.dims):
            raise ConfigError(
                f"{word} '{io.name}' is a scalar in the model, so max_batch_size must be 0 and its dims [ 1 ]"
            )
        return
    if io.batched and shape[0] != -1:
        raise ConfigError(
            f"tensor '{io.name}': for the model to support batching its first dimension must vary, "
            f"but the model's shape is {list(shape)}"
        )
    fits = len(shape) == len(io.full_dims) and all(
        want == got or (want == -1 and not exact) for want, got in zip(shape, io.full_dims, strict=True)
    )
    if not fits:
        raise ConfigError(
            f"tensor '{io.name}': the model expects shape {list(shape)}, "
            f"but the model configuration specifies {list(io.full_dims)}"
        )
