"""How requests become runs: instances, batches, queues, the response cache, warm-up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelport import _cores
from modelport.repository.doctor import text_fields
from modelport.repository.doctor.backends import READS_ONE_FILE
from modelport.repository.doctor.context import Context
from modelport.repository.doctor.finding import Finding, Rule, Severity
from modelport.repository.doctor.model import Model, outside
from modelport.repository.doctor.targets import Target

INSTANCES_MISSING = Rule(
    id="instances-missing",
    severity="warning",
    title="A config.pbtxt has no instance_group",
    why="Triton's default depends on backend and machine: on a CPU two for onnxruntime and tensorflow (with 'modelport "
    "serve --isolated' that is two processes, each with a copy of the model), else one; one for each GPU",
    fix="write it: instance_group { count: 1 kind: KIND_AUTO }",
    repair="edit",
)
INSTANCES_INVALID = Rule(
    id="instances-invalid",
    severity="error",
    title="An instance_group of KIND_CPU or KIND_MODEL names GPUs",
    why="Triton refuses the model",
    fix="remove `gpus`, or write KIND_GPU",
)
INSTANCES_GPU = Rule(
    id="instances-gpu-only",
    severity="note",
    title="An instance_group is KIND_GPU",
    why="where there is no GPU the model does not load; KIND_AUTO with a count runs on the GPU where there is one and "
    "else on the CPU",
    fix="write KIND_AUTO if the model may run without a GPU",
)
INSTANCES_THREADS = Rule(
    id="instances-threads",
    severity="note",
    title="The instances of a CPU model use more threads than there are cores here",
    why="in the container each instance of onnxruntime or pytorch takes a thread for every core unless told otherwise, "
    "and the threads take the cores from each other (the embedded server divides the cores by itself)",
    fix="set intra_op_thread_count (pytorch: INTRA_OP_THREAD_COUNT) so that instances x threads is at most the cores; "
    "'modelport plan --write' does so for all models",
)
BATCH_PREFERRED = Rule(
    id="batch-preferred",
    severity="error",
    title="A preferred_batch_size is above max_batch_size, or not positive",
    why="Triton refuses the model",
    fix="keep each preferred_batch_size from 1 to max_batch_size",
    repair="edit",
)
BATCH_POINTLESS = Rule(
    id="batch-pointless",
    severity="warning",
    title="dynamic_batching is asked for, and max_batch_size is 0",
    why="requests are never put together, without any message",
    fix="set max_batch_size if the model has a batch axis; else keep dynamic_batching only for its queue settings",
)
BATCH_IMPLICIT = Rule(
    id="batch-implicit",
    severity="note",
    title="max_batch_size is above 1, and no scheduler is written",
    why="the container adds dynamic_batching for some backends when it completes the configuration; a server that does "
    "not complete it runs each request alone",
    fix="write `dynamic_batching { }` if requests may be put together",
)
QUEUE_INVALID = Rule(
    id="queue-invalid",
    severity="error",
    title="Priority levels of a queue do not fit each other",
    why="Triton refuses the model",
    fix="default_priority_level and each priority_queue_policy lie from 1 to priority_levels; with preserve_ordering "
    "there is one level and no DELAY",
)
QUEUE_UNLIMITED = Rule(
    id="queue-unlimited",
    severity="note",
    title="A model's queue has no max_queue_size",
    why="under overload Triton's queue grows until memory ends, and callers wait longer than they can use the answer",
    fix="limit requests in front of the server; the embedded server's backends for ONNX and TorchScript do so by "
    "themselves. max_queue_size limits them as well, at the price that queue-stalls tells",
)
QUEUE_STALLS = Rule(
    id="queue-stalls",
    severity="warning",
    title="The queue of a model with one instance has a limit, a timeout or priorities",
    why="Triton then fetches no requests ahead, and its batcher can sleep for up to half a second while requests wait "
    "and the instance is free: a model that runs for milliseconds loses most of its throughput (with more instances it "
    "happens seldom)",
    fix="leave default_queue_policy and priority_levels out, unless a run takes longer than half a second, and limit "
    "requests in front of the server",
)
RESPONSE_CACHE = Rule(
    id="response-cache",
    severity="warning",
    title="A model uses the response cache (a note where no input has the same bytes in two shapes)",
    why="the cache's key is made of the inputs' bytes without their shapes: a request with the same bytes in another "
    "shape gets the wrong answer",
    fix="leave response_cache out",
)
EMBEDDED_UNSERVED = Rule(
    id="embedded-unserved",
    severity="note",
    title="A configuration needs what the embedded server's backends do not serve: sequences, decoupled answers, "
    "ragged batches, batch_input, batch_output",
    why="the model is refused there, with the reason",
    fix="serve it with the container",
)
WARMUP_RANDOM = Rule(
    id="warmup-random",
    severity="warning",
    title="model_warmup makes random values for integers or strings",
    why="token numbers and indices out of range stop some models at their first request",
    fix="record real inputs and name them in input_data_file",
)
WARMUP_FILE = Rule(
    id="warmup-file",
    severity="error",
    title="model_warmup names a file that is not in the model's folder `warmup`",
    why="the model does not load",
    fix="put the file there",
)
RULES = (
    INSTANCES_MISSING,
    INSTANCES_INVALID,
    INSTANCES_GPU,
    INSTANCES_THREADS,
    BATCH_PREFERRED,
    BATCH_POINTLESS,
    BATCH_IMPLICIT,
    QUEUE_INVALID,
    QUEUE_UNLIMITED,
    QUEUE_STALLS,
    RESPONSE_CACHE,
    EMBEDDED_UNSERVED,
    WARMUP_RANDOM,
    WARMUP_FILE,
)
_THREADS = {"onnxruntime": "intra_op_thread_count", "pytorch": "INTRA_OP_THREAD_COUNT"}
_AUTO, _GPU = 0, 1  # ModelInstanceGroup.Kind
_GPU_ONLY = ("tensorrt", "tensorrtllm", "vllm")
# Images are bytes: each of them is a value that may come.
_RANDOM_IS_FINE = ("TYPE_UINT8", "TYPE_INT8", "TYPE_FP16", "TYPE_FP32", "TYPE_FP64", "TYPE_BF16", "TYPE_BOOL")


def check(context: Context) -> Iterator[Finding]:
    """Every model's scheduling."""
    for model in context.models:
        if model.config is not None:
            if not model.ensemble:  # it has no instances; the steps' models have
                yield from _instances(model)
                yield from _batches(model)
                yield from _queues(model)
            yield from _cache(model, context.target)
            yield from _embedded(model)
            yield from _warmup(model)


def _instances(model: Model) -> Iterator[Finding]:
    config = model.config
    assert config is not None
    if not config.instance_group:
        plain = model.backend in (*READS_ONE_FILE, "python")  # others may not run where KIND_AUTO would put them
        yield INSTANCES_MISSING.found("there is no instance_group", model.at("instance_group"), fixable=plain)
    total = 0
    for index, group in enumerate(config.instance_group):
        where = model.at("instance_group", index=index)
        kind = str(type(group).Kind.Name(group.kind))
        total += max(1, group.count) if group.kind != _GPU else 0
        if group.gpus and group.kind not in (_AUTO, _GPU):
            yield INSTANCES_INVALID.found(f"{kind} with gpus {list(group.gpus)}", where)
        if group.kind == _GPU and model.backend not in _GPU_ONLY:
            yield INSTANCES_GPU.found(f"instance_group is {kind}", where)
    parameter = _THREADS.get(model.backend)
    if parameter and total:
        cores = _cores.usable()
        said = config.parameters[parameter].string_value if parameter in config.parameters else ""
        threads = int(said) if said.isdecimal() and int(said) else cores
        if total * threads > cores:
            yield INSTANCES_THREADS.found(
                f"instances {total}, threads of each {threads}, cores {cores}", model.at("instance_group")
            )


def _batches(model: Model) -> Iterator[Finding]:
    config = model.config
    assert config is not None
    for path in (("dynamic_batching",), ("sequence_batching", "oldest")):
        for field in text_fields.find(model.fields, *path, "preferred_batch_size"):
            if not field.value.isdecimal() or not 1 <= int(field.value, 0) <= config.max_batch_size:
                yield BATCH_PREFERRED.found(
                    f"preferred_batch_size {field.value}, max_batch_size {config.max_batch_size}",
                    model.at_line(field.line),
                    fixable=path == ("dynamic_batching",),
                )
    if config.HasField("dynamic_batching") and config.max_batch_size == 0:
        severity: Severity = "note" if config.dynamic_batching.ByteSize() else "warning"  # a queue's settings are there
        yield BATCH_POINTLESS.found(
            "dynamic_batching, and max_batch_size is 0", model.at("dynamic_batching"), severity=severity
        )
    if config.max_batch_size > 1 and not config.WhichOneof("scheduling_choice"):
        what = f"max_batch_size is {config.max_batch_size}, and there is no dynamic_batching"
        yield BATCH_IMPLICIT.found(what, model.at("max_batch_size"))


def _queues(model: Model) -> Iterator[Finding]:
    config = model.config
    assert config is not None
    batching = config.dynamic_batching
    levels = batching.priority_levels
    policies = [batching.default_queue_policy, *batching.priority_queue_policy.values()]
    where = model.at("dynamic_batching")
    if levels and not 1 <= batching.default_priority_level <= levels:
        what = f"default_priority_level {batching.default_priority_level}, priority_levels {levels}"
        yield QUEUE_INVALID.found(what, where)
    if levels and any(not 1 <= level <= levels for level in batching.priority_queue_policy):
        yield QUEUE_INVALID.found(f"priority_queue_policy for {sorted(batching.priority_queue_policy)}", where)
    delays = any(policy.timeout_action and policy.default_timeout_microseconds for policy in policies)
    if batching.preserve_ordering and (levels > 1 or delays):
        what = f"preserve_ordering with {f'{levels} priority levels' if levels > 1 else 'DELAY'}"
        yield QUEUE_INVALID.found(what, where)
    if config.HasField("dynamic_batching") and any(policy.max_queue_size == 0 for policy in policies):
        yield QUEUE_UNLIMITED.found("max_queue_size is not set", where)
    instances = sum(max(1, group.count) * max(1, len(group.gpus)) for group in config.instance_group)
    if instances == 1 and (levels or any(map(_limits, policies))):
        yield QUEUE_STALLS.found("default_queue_policy or priority_levels is set", where)


def _limits(policy: Any) -> bool:
    """Whether a queue policy turns Triton's prefetching off."""
    return bool(policy.max_queue_size or policy.default_timeout_microseconds or policy.allow_timeout_override)


def _cache(model: Model, target: Target) -> Iterator[Finding]:
    config = model.config
    assert config is not None
    if not config.response_cache.enable:
        return
    where = model.at("response_cache")
    for what, there in (
        ("sequence_batching", config.HasField("sequence_batching")),
        ("decoupled answers", config.model_transaction_policy.decoupled),
    ):
        if there:
            yield RESPONSE_CACHE.found(
                f"response_cache with {what}", where, severity="error", why="Triton refuses the model"
            )
            return
    if not target.cache_leaks and not _ambiguous(config):
        yield RESPONSE_CACHE.found("response_cache is on; here equal bytes are equal inputs", where, severity="note")
        return
    leaks = f"; in {target.name} (Triton {target.triton}) it also loses memory" if target.cache_leaks else ""
    yield RESPONSE_CACHE.found("response_cache is on", where, why=RESPONSE_CACHE.why + leaks)


def _ambiguous(config: Any) -> bool:
    """Whether an input can have the same bytes in two shapes; unknown for inputs that the backend completes."""
    free = [sum(size < 0 for size in tensor.dims) + (config.max_batch_size > 0) for tensor in config.input]
    return max(free, default=2) > 1


def _embedded(model: Model) -> Iterator[Finding]:
    config = model.config
    assert config is not None
    if model.backend not in _THREADS:  # the backends that the embedded server has of its own
        return
    asked = {
        "sequence_batching": config.HasField("sequence_batching"),
        "model_transaction_policy": config.model_transaction_policy.decoupled,
        "batch_input": bool(config.batch_input),
        "batch_output": bool(config.batch_output),
        "allow_ragged_batch": any(tensor.allow_ragged_batch for tensor in config.input),
    }
    for name, there in asked.items():
        if there:
            yield EMBEDDED_UNSERVED.found(f"{name} is asked for", model.at(*_path_of(name)))


def _path_of(name: str) -> tuple[str, ...]:
    return ("input", name) if name == "allow_ragged_batch" else (name,)


def _warmup(model: Model) -> Iterator[Finding]:
    config = model.config
    assert config is not None
    for index, sample in enumerate(config.model_warmup):
        where = model.at("model_warmup", index=index)
        for name, tensor in sorted(sample.inputs.items()):
            type_name = str(tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values[tensor.data_type].name)
            if tensor.random_data and type_name not in _RANDOM_IS_FINE:
                yield WARMUP_RANDOM.found(f"random {type_name} for input {name!r}", where)
            file = tensor.input_data_file
            if file and (outside(file) or not (model.folder / "warmup" / file).is_file()):
                yield WARMUP_FILE.found(f"{Path('warmup', file)} is not there", where)
