"""What callers notice of a promotion: their latency during it against the time before, and what it costs in CPU.

    python benchmarks/promotion_latency.py              ResNet-18, images of 224x224 pixels, random weights
    python benchmarks/promotion_latency.py --isolated   versions in processes of their own
    python benchmarks/promotion_latency.py --quick      two short rounds

Callers in a process of their own send one image each, over HTTP, at fixed times (`--rate` a second, whether the answers
come or not); latency counts from the moment a request was due. In each round they do so for a while undisturbed
(`steady`), then while the command `modelport promote` runs, from its start to its end (`promotion`): the version is
loaded on trial, its evidence is replayed, it is loaded again and takes over. After that the rollback, which is not
measured. The file keeps the latency of every request, and for each promotion the CPU seconds of the server, of the
command, and of the processes that had the version on trial and that serve it then; where versions run in the server's
own process, these two are 0, and the server's seconds are those of all. The percentiles of the summary are over all
rounds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from networks import resnet

import modelport
from modelport.bench import results
from modelport.server import stubs

PACKAGES = ("modelport", "nvidia-pytriton", "onnxruntime", "numpy", "tritonclient")
RESULTS = Path(__file__).with_name("results")
STEADY, PROMOTION = "steady", "promotion"
CLIENTS = 16  # more than ever wait at the same time, so that each request is sent when it is due
SAMPLE_S = 0.1
Row = dict[str, Any]


def call(url: str, image: int, rate: float, begun: Event, stop: Event, found: Any) -> None:
    """Ask at fixed times until `stop`; puts (due, latency in seconds, error) of each request into `found`."""
    picture = np.random.default_rng(1).standard_normal((1, 3, image, image), dtype=np.float32)
    answers: list[tuple[float, float, str]] = []
    with modelport.Client(url, timeout_s=30, retries=0, concurrency=CLIENTS) as client:

        def one(due: float) -> None:
            error = ""
            try:
                client.infer(resnet.NAME, image=picture)
            except modelport.ModelportError as exc:
                error = f"{exc.what}: {exc.why}"
            answers.append((due, time.monotonic() - due, error))

        one(time.monotonic())
        answers.clear()
        with ThreadPoolExecutor(CLIENTS) as pool:
            begun.set()
            due = time.monotonic()
            while not stop.wait(max(0.0, due - time.monotonic())):
                pool.submit(one, due)
                due += 1 / rate
    found.put(answers)


@contextmanager
def callers(url: str, image: int, rate: float) -> Iterator[list[tuple[float, float, str]]]:
    """Callers that ask during the block; the list is filled at its end."""
    context = multiprocessing.get_context("spawn")
    begun, stop, found = context.Event(), context.Event(), context.Queue()
    process = context.Process(target=call, args=(url, image, rate, begun, stop, found))
    process.start()
    answers: list[tuple[float, float, str]] = []
    try:
        if not begun.wait(60):
            sys.exit("the callers did not begin")
        yield answers
    finally:
        stop.set()
        answers += found.get(timeout=60)
        process.join(60)


class Meter:
    """The CPU seconds of a server and of its stubs while the block runs; stubs that end meanwhile are counted."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._seen: dict[tuple[str, int], dict[int, float]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Meter:
        self._before = {stub.pid: seconds(stub.process) for stub in stubs.find(self._handle)}
        self._server = seconds(psutil.Process(self._handle.server_pid))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.server_s = seconds(psutil.Process(self._handle.server_pid)) - self._server

    def new_s(self, model: str) -> float:
        """CPU seconds of the stubs of a model that began during the block."""
        own = [found for (name, _), found in self._seen.items() if name == model]
        return sum(value for found in own for pid, value in found.items() if pid not in self._before)

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            for stub in stubs.find(self._handle):
                self._seen.setdefault((stub.model, stub.version), {})[stub.pid] = seconds(stub.process)


def seconds(process: psutil.Process) -> float:
    """CPU seconds that a process has used; 0 for one that has just ended."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def promote(repository: Path) -> tuple[float, Row]:
    """Run the command; the CPU seconds that it used, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [
        sys.executable,
        "-m",
        "modelport",
        "promote",
        resnet.NAME,
        "2",
        "--repository",
        str(repository),
        "--json",
    ]
    done = subprocess.run(command, env=results.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"the command failed: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, json.loads(done.stdout)


def measure(server: Any, repository: Path, options: argparse.Namespace) -> list[Row]:
    """Two rows for each round: the steady state, and the promotion."""
    rows: list[Row] = []
    for number in range(options.repeats):
        with callers(server.http_url, options.image, options.rate) as answers:
            began = time.monotonic()
            time.sleep(options.seconds)
            started = time.monotonic()
            with Meter(server.handle) as meter:
                command_s, done = promote(repository)
            ended = time.monotonic()
        modelport.rollback(resnet.NAME, repository=repository)
        cost = {
            "cpu_trial_s": meter.new_s(f"{resnet.NAME}.trial"),
            "cpu_new_s": meter.new_s(resnet.NAME),
            "cpu_server_s": meter.server_s,
            "cpu_command_s": command_s,
        }
        facts = {"switch_s": done["switch_s"], "checks": done["checks"], **cost}
        rows.append(row(number, STEADY, began, started, answers))
        rows.append({**row(number, PROMOTION, started, ended, answers), **facts})
        show(rows[-2:])
    return rows


def row(number: int, phase: str, began: float, ended: float, answers: list[tuple[float, float, str]]) -> Row:
    own = [(latency, error) for due, latency, error in answers if began <= due < ended]
    failed = [error for _, error in own if error]
    if failed:
        sys.exit(f"{len(failed)} requests failed, such as: {failed[0]}")
    latencies = [round(latency * 1000, 2) for latency, _ in own]
    return {"round": number, "phase": phase, "seconds": ended - began, "latencies_ms": latencies}


def show(rows: list[Row]) -> None:
    for one in rows:
        found = one["latencies_ms"]
        cost = f"  CPU s: {', '.join(f'{k[4:-2]} {v:.2f}' for k, v in one.items() if k.startswith('cpu'))}"
        print(f"  round {one['round'] + 1:2}  {one['phase']:9}  {one['seconds']:5.1f} s  {len(found):4} requests  "
              f"p50 {np.percentile(found, 50):7.2f} ms  p99 {np.percentile(found, 99):7.2f} ms"
              f"{cost if one['phase'] == PROMOTION else ''}", flush=True)  # fmt: skip


def summary(rows: list[Row]) -> list[str]:
    found = {
        phase: np.concatenate([row["latencies_ms"] for row in rows if row["phase"] == phase])
        for phase in (STEADY, PROMOTION)
    }
    lines = [
        f"{phase:9}  {len(all_of_it):5} requests  p50 {np.percentile(all_of_it, 50):7.2f} ms  "
        f"p99 {np.percentile(all_of_it, 99):7.2f} ms  largest {all_of_it.max():7.2f} ms"
        for phase, all_of_it in found.items()
    ]
    ratio = np.percentile(found[PROMOTION], 99) / np.percentile(found[STEADY], 99)
    lines.append(f"p99 during a promotion is {ratio:.2f} times that of the steady state")
    p99 = [float(np.percentile(row["latencies_ms"], 99)) for row in rows]
    each = results.spread(after / before for before, after in zip(p99[::2], p99[1::2], strict=True))
    unstable = "  unstable" if each.unstable else ""
    lines.append(f"in the middle of the rounds {each.median:.2f} times ({each.low:.2f} to {each.high:.2f}){unstable}")
    for name in ("cpu_server_s", "cpu_trial_s", "cpu_new_s", "cpu_command_s"):
        cost = results.spread(row[name] for row in rows if row["phase"] == PROMOTION)
        lines.append(f"{name:13}  {cost.median:6.2f} s ({cost.low:.2f} to {cost.high:.2f})")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--width", type=int, default=64, help="channels of the first layer; 64 is ResNet-18")
    parser.add_argument("--rate", type=float, default=8, help="requests a second")
    parser.add_argument("--seconds", type=float, default=15, help="length of the steady state in each round")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--isolated", action="store_true", help="each version in processes of its own")
    parser.add_argument("--quick", action="store_true", help="two rounds of 6 seconds")
    parser.add_argument("--output", type=Path, default=RESULTS / "promotion_latency.json")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.repeats = 6, 2
    facts = {name: getattr(options, name) for name in ("image", "width", "rate", "isolated")}
    circumstances = {**results.conditions(PACKAGES), **facts}
    with tempfile.TemporaryDirectory(prefix="modelport-bench-") as scratch:
        repository = Path(scratch) / "repository"
        size = resnet.publish(repository, versions=2, image=options.image, width=options.width)
        free = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
        with modelport.serve(repository, **free, isolated=options.isolated) as server:
            rows = measure(server, repository, options)
    results.write(options.output, circumstances={**circumstances, "model_bytes": size}, rows=rows)
    print("\n".join([*summary(rows), f"every request: {options.output}"]))


if __name__ == "__main__":
    main()
