"""How long it takes from the start of a server to its first right answer: one small model, and all sample models.

    python benchmarks/startup.py               model_repository/, as 'modelport demo' builds it
    python benchmarks/startup.py --quick       one round

Every measurement is a process of its own, from files that the kernel has read before:

- `command`: from the start of the process `modelport serve` to the first right answer over HTTP; and, as `ready`, until
  its /readyz says that every serving version answers as its source did.
- `library`: from `EmbeddedServer(...)` to the first right answer, in a Python that has imported it.
- `bare`: the same server without any model, until it answers: what Triton itself takes.

`cpu` is the processor time until then: of the command with all that it started, or of the server with its processes.

An answer is right when the first golden row's is within the tolerance that the version was published with; with all
models, every one of them has answered. The ways take turns in every round; the file keeps every run. `unstable` marks
a spread over 25 %: the machine was not quiet.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from modelport._process import Child, run
from modelport.bench import results
from modelport.client import Client
from modelport.commands.serve import servable
from modelport.errors import ClientError, ModelNotFoundError
from modelport.lifecycle import served
from modelport.repository.layout import version_folder
from modelport.repository.versions import serving_version
from modelport.server import EmbeddedServer

PACKAGES = ("modelport", "nvidia-pytriton", "onnxruntime", "torch", "numpy")
OUTPUT = Path(__file__).with_name("results") / "startup.json"
BARE, ONE, ALL = "no model", "one model", "all models"
GOALS_S = {("command", ONE): 3.0, ("command", ALL): 10.0}
LIMIT_S = 180.0
LOOK_S = 0.02
CPU_CLOCK = 2  # of its kinds, the one that counts user and system time
PORTS = ("http_port", "grpc_port", "metrics_port", "health_port")


def answered(url: str, repository: Path, models: Sequence[str], limit_s: float = LIMIT_S) -> Iterator[str]:
    """Ask again and again; each model when it has given its first right answer."""
    left = {}
    for model in models:
        version = serving_version(repository, model)
        left[model] = served.read(version_folder(repository, model, version or 0), compare_files=False)
    until = time.monotonic() + limit_s
    with Client(url, timeout_s=10.0, retries=0, token="") as client:
        while left:
            for model in list(left):
                try:
                    served.replay_one(client, left[model], model=model, version=None, where=url)
                except (ClientError, ModelNotFoundError) as error:  # it is not there yet
                    if time.monotonic() > until:
                        sys.exit(f"{model} does not answer: {error}")
                    continue
                del left[model]
                yield model
            time.sleep(LOOK_S)


def command(repository: Path, models: Sequence[str], *, chosen: bool) -> dict[str, float]:
    """`modelport serve` in a process of its own."""
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    words = [sys.executable, "-m", "modelport", "serve", "--repository", str(repository)]
    words += [f"--{name.replace('_', '-')}={port}" for name, port in ports.items()]
    words += [word for model in models for word in ("--model", model)] if chosen else []
    log = repository.parent / "serve.log"
    started = time.perf_counter()
    with Child(words, log=log, env=results.environment()) as child:
        url = f"http://127.0.0.1:{ports['http_port']}"
        seen = [time.perf_counter() - started for _ in answered(url, repository, models)]
        cpu_s = processor_time(child.pid)
        while not ready(ports["health_port"]):
            if child.returncode() is not None or time.perf_counter() - started > LIMIT_S:
                sys.exit(f"the service is not ready: {child.log_tail()}")
            time.sleep(LOOK_S)
        ready_s = time.perf_counter() - started
        child.stop(grace_s=30.0, first=signal.SIGINT)
    return {"first_s": seen[0], "answered_s": seen[-1], "ready_s": ready_s, "cpu_s": cpu_s}


def library(repository: Path, models: Sequence[str]) -> dict[str, float]:
    """`EmbeddedServer` in another Python, which runs this file."""
    words = [sys.executable, str(Path(__file__)), "--inside", str(repository), *models]
    found: dict[str, float] = json.loads(run(words, env=results.environment(), timeout_s=LIMIT_S).splitlines()[-1])
    return found


def inside(repository: Path, models: Sequence[str]) -> dict[str, float]:
    started = time.perf_counter()
    with EmbeddedServer(repository, models=models, http_port=0, grpc_port=0, metrics_port=0) as server:
        seen = [time.perf_counter() - started for _ in answered(server.http_url, repository, models)]
        if not seen:
            seen = [time.perf_counter() - started]
        cpu_s = processor_time(server.pid or 0)
    return {"first_s": seen[0], "answered_s": seen[-1], "cpu_s": cpu_s}


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process and those below it have taken.

    By the processes' own clocks, whose number is what clock_getcpuclockid(3) makes of a process number: the counts in
    /proc are of 10 ms, and a server without a model may take less.
    """
    root = psutil.Process(pid)
    pids = [process.pid for process in (root, *root.children(recursive=True))]
    return sum(time.clock_gettime((~each << 3) | CPU_CLOCK) for each in pids)


def ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2.0) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def measure(repository: Path, small: str, rounds: int) -> list[dict[str, object]]:
    """One row for each start."""
    everything = servable(repository)
    command(repository, [small], chosen=True)  # not kept: modules are compiled and the toolchain is built now
    rows: list[dict[str, object]] = []
    for number in range(rounds):
        for way, what, models in (
            ("bare", BARE, []),
            ("library", ONE, [small]),
            ("command", ONE, [small]),
            ("library", ALL, everything),
            ("command", ALL, everything),
        ):
            served_by_command = way == "command"
            times = (
                command(repository, models, chosen=what == ONE) if served_by_command else library(repository, models)
            )
            rows.append({"round": number, "way": way, "what": what, "models": len(models), **times})
            said = "  ".join(f"{name[:-2]} {seconds:6.2f} s" for name, seconds in times.items())
            print(f"  round {number + 1:2}  {way:7}  {what:10}  {said}", flush=True)
    return rows


def summary(rows: Sequence[dict[str, object]]) -> list[str]:
    lines = []
    for way, what in dict.fromkeys((str(row["way"]), str(row["what"])) for row in rows):
        own = [row for row in rows if (row["way"], row["what"]) == (way, what)]
        for part in ("answered_s", "ready_s", "cpu_s"):
            if part not in own[0]:
                continue
            found = results.spread(float(str(row[part])) for row in own)
            goal = GOALS_S.get((way, what)) if part == "answered_s" else None
            mark = f"  goal {goal:g} s: {'holds' if found.median <= goal else 'missed'}" if goal else ""
            unstable = "  unstable" if found.unstable else ""
            times = f"{found.median:6.2f} s ({found.low:.2f} to {found.high:.2f})"
            lines.append(f"{way:7}  {what:10}  {part[:-2]:8}  {times}{mark}{unstable}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--small", default="linear_regression", help="the one small model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--inside", nargs="+", metavar=("REPOSITORY", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(inside(Path(options.inside[0]), options.inside[1:])))
        return
    circumstances = {**results.conditions(PACKAGES), "small": options.small, "goals_s": list(GOALS_S.values())}
    with tempfile.TemporaryDirectory(prefix="modelport-bench-") as scratch:
        repository = Path(scratch) / "repository"  # a service that runs for the original is left alone
        shutil.copytree(options.repository, repository)
        circumstances["models"] = servable(repository)
        try:
            rows = measure(repository, options.small, 1 if options.quick else options.rounds)
        except subprocess.SubprocessError as error:
            sys.exit(str(error))
    results.write(options.output, circumstances=circumstances, rows=rows)
    print("\n".join([*summary(rows), f"every run: {options.output}"]))


if __name__ == "__main__":
    main()
