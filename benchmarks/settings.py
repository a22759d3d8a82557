"""What settings of the embedded server cost or bring: instances and threads, batching delay, Triton's own options.

    python benchmarks/settings.py                       digits_cnn and resnet18 of model_repository/
    python benchmarks/settings.py --random              networks of the same shapes with random weights
    python benchmarks/settings.py --quick               one round, each run 1 s: that it runs, not what it says

The same model is served once for each setting, all servers stay up, and `wrk` asks them in turns with 1, 8 and 32
clients. Behind each setting stand its rate, median latency and processor time per request as parts of those of the
model as it was exported, medians of the ratios within the rounds; the file keeps every single run. Processor time is
what can be relied on when the machine is not quiet. `unstable` marks a ratio of rates over 25 % apart.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from networks import samples

from modelport.bench import results, usage, variant, wrk
from modelport.bench.requests import Request, triton_request
from modelport.repository import config as configs
from modelport.repository.layout import config_path
from modelport.server import EmbeddedServer, counters

CORES = len(os.sched_getaffinity(0))
PACKAGES = ("modelport", "nvidia-pytriton", "onnxruntime", "numpy")
RESULTS = Path(__file__).with_name("results")
FIGURES = ("requests_per_s", "p50_ms", "cpu_us_per_request")
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How one server differs from the model as exported.

    Attributes:
        instances: Of the model; 0 as exported.
        threads: ONNX Runtime's in each instance; 0 as exported.
        delay_us: How long the batcher waits for more requests.
        options: Further options of `tritonserver`.
        variables: Further environment variables of it.
    """

    instances: int = 0
    threads: int = 0
    delay_us: int = 0
    options: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


AS_EXPORTED = "as exported"
SETTINGS = {
    AS_EXPORTED: Setting(),
    "1 instance, all cores": Setting(instances=1, threads=CORES),
    "1 instance, 1 thread": Setting(instances=1, threads=1),
    "an instance per core": Setting(instances=CORES, threads=1),
    "2 instances per core": Setting(instances=2 * CORES, threads=1),
    "delay of 50 us": Setting(delay_us=50),
    "delay of 200 us": Setting(delay_us=200),
    "delay of 1000 us": Setting(delay_us=1000),
    "2 HTTP threads": Setting(options=("--http-thread-count=2",)),
    "16 HTTP threads": Setting(options=("--http-thread-count=16",)),
    "no pinned memory": Setting(options=("--pinned-memory-pool-byte-size=0",)),
    "metrics of the CPU off": Setting(options=("--allow-cpu-metrics=false",)),
    "2 arenas of malloc": Setting(variables={"MALLOC_ARENA_MAX": "2"}),
    "no change list of libevent": Setting(variables={"EVENT_EPOLL_USE_CHANGELIST": "0"}),
}


def serve(source: Path, model: str, setting: Setting, scratch: Path) -> EmbeddedServer:
    """Start a server with the model in this setting."""
    threads = {"intra_op_thread_count": str(setting.threads)} if setting.threads else {}
    repository = variant.copy(source, model, scratch / "models", instance_count=setting.instances, parameters=threads)
    if setting.delay_us:
        config = configs.read(config_path(repository, model))
        config.dynamic_batching.max_queue_delay_microseconds = setting.delay_us
        config_path(repository, model).write_text(configs.text(config), encoding="utf-8")
    server = EmbeddedServer(
        repository, state_dir=scratch / "state", http_port=0, grpc_port=0, metrics_port=0, extra_args=setting.options
    )
    with mock.patch.dict(os.environ, setting.variables):
        return server.start()


def asked(server: EmbeddedServer, model: str, request: Request, clients: int, seconds: int) -> Row:
    """One run."""
    before, used = counters.sample(server.handle), usage.tree_s(server.pid or 0)
    load = wrk.measure(server.http_url, request, clients=clients, seconds=seconds)
    used, after = usage.tree_s(server.pid or 0) - used, counters.sample(server.handle)
    batch = counters.rates((model, 1), before, after).mean_batch
    return {**asdict(load), "cpu_us_per_request": 1e6 * used / load.requests, "mean_batch": batch}


def measured(source: Path, model: str, options: argparse.Namespace) -> Iterator[Row]:
    """All settings of one model, in turns."""
    config = configs.read(config_path(source, model))
    row = np.random.default_rng(1).random((1, *config.input[0].dims), dtype=np.float32)
    request = triton_request(model, {config.input[0].name: row}, config.output[0].name)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="modelport-bench-")))
        servers = {}
        for number, name in enumerate(options.settings):
            servers[name] = serve(source, model, SETTINGS[name], scratch / str(number))
            stack.callback(servers[name].stop)
            wrk.measure(servers[name].http_url, request, clients=max(options.clients), seconds=1)
        for number in range(options.repeats):
            for count in options.clients:
                for name, server in servers.items():
                    figures = asked(server, model, request, count, options.seconds)
                    yield {"model": model, "setting": name, "round": number, **figures}


def summary(rows: list[Row]) -> Iterator[str]:
    """Each setting against the model as exported."""
    for model, count, name in dict.fromkeys((row["model"], row["clients"], row["setting"]) for row in rows):
        key = {"model": model, "clients": count}
        here, base = (
            [row for row in rows if row.items() >= {**key, "setting": one}.items()] for one in (name, AS_EXPORTED)
        )
        rate, p50, cpu = (
            results.spread(a[figure] / b[figure] for a, b in zip(here, base, strict=True)) for figure in FIGURES
        )
        batch = results.spread(row["mean_batch"] for row in here)
        yield (
            f"{model:12} {count:3} clients  {name:24} rate x {rate.median:.2f} ({rate.low:.2f} to {rate.high:.2f})  "
            f"p50 x {p50.median:.2f}  processor x {cpu.median:.2f} ({cpu.low:.2f} to {cpu.high:.2f})  "
            f"batch {batch.median:4.1f}" + ("  unstable" if rate.unstable else "")
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--random", action="store_true", help="use random weights; needs no built models")
    parser.add_argument("--models", nargs="+", choices=list(samples.MAKERS), default=["digits_cnn", "resnet18"])
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=int, default=2, help="length of each run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round, each run 1 s: says little")
    parser.add_argument("--output", type=Path, default=RESULTS / "settings.json")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.repeats = 1, 1
    options.settings = list(dict.fromkeys([AS_EXPORTED, *options.settings]))
    circumstances = results.conditions(PACKAGES)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="modelport-bench-") as scratch:
        source = samples.publish(Path(scratch), options.models) if options.random else options.repository
        for model in options.models:
            rows += measured(source, model, options)
    results.write(options.output, circumstances=circumstances, rows=rows)
    print("\n".join([*summary(rows), f"every run: {options.output}"]))


if __name__ == "__main__":
    main()
