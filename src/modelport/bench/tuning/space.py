"""The settings that are tuned, which ones are tried, and how a `config.pbtxt` says them.

`max_batch_size` is what callers may send in one request: tuning raises it where larger batches pay, and never lowers
it. Smaller batches are said with `preferred_batch_size`, at which Triton's batcher ends a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from modelport.errors import UsageError
from modelport.repository import config as configs
from modelport.repository import merge

DELAYS_US = (0, 100, 500, 2000)
GPU_INSTANCES = (1, 2, 4)
# Backend to the parameter with the number of threads of one instance.
THREADS = {"onnxruntime": "intra_op_thread_count", "pytorch": "INTRA_OP_THREAD_COUNT"}


@dataclass(frozen=True, kw_only=True, order=True)
class Setting:
    """How a model is served.

    Attributes:
        instances: Runs of the model side by side.
        threads: Threads of each; 0 where the backend is not told.
        batch: Rows that the batcher puts together; 1: it is off; 0: the model has no batch axis.
        delay_us: Microseconds that a request waits for others.
    """

    instances: int
    threads: int
    batch: int
    delay_us: int

    def __str__(self) -> str:
        threads = f" of {_count(self.threads, 'thread')}" if self.threads else ""
        batches = {0: "", 1: ", no batching"}.get(self.batch, f", batches to {self.batch}, delay {self.delay_us} us")
        return f"{_count(self.instances, 'instance')}{threads}{batches}"

    @property
    def group(self) -> tuple[int, int]:
        """Instances and threads: settings that differ in batching alone have it in common."""
        return (self.instances, self.threads)


def space(*, largest: int, cores: int, threads: bool, gpu: bool = False, most_delay_us: float = 1e9) -> list[Setting]:
    """All settings among which one is looked for, sorted.

    Args:
        largest: The largest batch; 0 without a batch axis.
        cores: What instances times threads may use.
        threads: Whether the backend can be told how many threads to use.
        gpu: Whether the model runs on a GPU: threads of the CPU do not matter then.
        most_delay_us: Longer delays are left out.
    """
    groups = [(i, 0) for i in GPU_INSTANCES] if gpu else [(i, t) for i in _ladder(cores) for t in _ladder(cores // i)]
    if not threads:
        groups = sorted({(instances, 0) for instances, _ in groups})
    batchings = [(batch, delay) for batch in _ladder(largest) for delay in DELAYS_US if delay <= most_delay_us]
    batchings = [(batch, delay) for batch, delay in batchings if batch > 1 or delay == 0] or [(0, 0)]
    return sorted(Setting(instances=i, threads=t, batch=b, delay_us=d) for i, t in groups for b, d in batchings)


def on_gpu(config: configs.ModelConfig) -> bool:
    """Whether the configuration has the model run on a GPU."""
    return any(group.kind == type(group).KIND_GPU for group in config.instance_group)


def largest_batch(config: configs.ModelConfig, clients: int) -> int:
    """The largest batch that is worth trying: what the model takes, or the next doubling that all clients fill.

    Args:
        config: The model's configuration.
        clients: The most requests on the way.
    """
    most: int = config.max_batch_size
    while most and most * 2 <= clients:
        most *= 2
    return most


def present(config: configs.ModelConfig, *, cores: int) -> Setting:
    """The setting that a configuration says.

    Args:
        config: The configuration.
        cores: What the backend's threads share where the configuration does not say how many.
    """
    if len(config.instance_group) > 1 or any(len(group.gpus) > 1 for group in config.instance_group):
        raise UsageError(
            f"{config.name} cannot be tuned: its instances are of several kinds, or on several GPUs",
            why="one kind, in one place, is tuned at a time; the others would be lost",
            fix=f"leave one instance_group in {config.name}/config.pbtxt, or tune a copy of the model with each",
        )
    instances = sum(max(1, group.count) for group in config.instance_group) or 1
    batcher = config.dynamic_batching
    batch = int(config.max_batch_size)
    if batch and not config.HasField("dynamic_batching"):
        batch = 1
    elif batch and batcher.preferred_batch_size:
        batch = max(batcher.preferred_batch_size)
    delay = int(batcher.max_queue_delay_microseconds) if batch > 1 else 0
    return Setting(instances=instances, threads=_threads(config, instances, cores), batch=batch, delay_us=delay)


def applied(config: configs.ModelConfig, setting: Setting, *, kind: str = "") -> configs.ModelConfig:
    """A configuration with another setting; all else in it stays.

    Args:
        config: The configuration; it is not changed.
        setting: The setting.
        kind: `KIND_CPU` or `KIND_GPU`; empty leaves it as it is.
    """
    final = merge.copy(config)
    del final.instance_group[1:]
    group = final.instance_group[0] if final.instance_group else final.instance_group.add()
    group.count = setting.instances
    if kind:
        group.kind = type(group).Kind.Value(kind)
    if group.kind == type(group).KIND_CPU:
        group.ClearField("gpus")  # which Triton refuses there
    if setting.threads:
        final.parameters[THREADS[config.backend]].string_value = str(setting.threads)
    if setting.batch:
        _batching(final, setting)
    return final


def _batching(config: configs.ModelConfig, setting: Setting) -> None:
    """Say how batches are formed; an owner's queue policy stays."""
    config.max_batch_size = max(config.max_batch_size, setting.batch)
    batcher = config.dynamic_batching
    batcher.ClearField("preferred_batch_size")
    batcher.ClearField("max_queue_delay_microseconds")
    if setting.batch == 1 and batcher.ByteSize() == 0:
        config.ClearField("dynamic_batching")
        return
    batcher.SetInParent()
    if setting.batch < config.max_batch_size:
        batcher.preferred_batch_size.append(setting.batch)
    if setting.delay_us:
        batcher.max_queue_delay_microseconds = setting.delay_us


def _threads(config: configs.ModelConfig, instances: int, cores: int) -> int:
    name = THREADS.get(config.backend)
    if name is None:
        return 0
    text = config.parameters[name].string_value if name in config.parameters else ""
    if text and not text.isdecimal():
        raise UsageError(
            f"{config.name} cannot be tuned: its parameter {name} is {text!r}",
            why="a number of threads is a whole number",
            fix=f"correct or remove it in {config.name}/config.pbtxt",
        )
    return int(text or 0) or max(1, cores // instances)


def _ladder(most: int) -> list[int]:
    """1, 2, 4 and so on, and the most itself; nothing for 0."""
    steps = [1 << n for n in range(most.bit_length()) if 1 << n < most]
    return [*steps, most] if most else []


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number != 1 else ''}"
