"""What a peer is asked to serve, what it serves then, and the processes of one that is up."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from modelport._process import Child, wait_until
from modelport.bench import results
from modelport.bench.requests import Request, post
from modelport.errors import ClientError, ProcessError, ServerTimeoutError, VerificationError

SERVICES = Path(__file__).with_name("services")
MARK = "MODELPORT_PEER"
CLOSE = 1e-5
Array = np.ndarray[Any, Any]
# Workers, and ONNX Runtime's threads in each; 0 stands for as many as there are cores. Threads that wait spin, as
# ONNX Runtime's do by themselves, or sleep: https://onnxruntime.ai/docs/performance/tune-performance/threading.html
ASLEEP = "1 worker, threads sleep"
LAYOUTS = {"1 worker": (1, 0), ASLEEP: (1, 0), "1 worker of 1 thread": (1, 1), "a worker per core": (0, 1)}
TRIED = "1 whose threads spin or sleep, 1 with one thread, one per core"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One model for one peer.

    Attributes:
        repository: The repository that holds the model.
        name: The model's name there.
        model: Its ONNX file.
        input: Name of its one input.
        output: Name of its first output.
        rows: What the requests ask, without the batch axis; of several lengths where the model takes such.
        answers: ONNX Runtime's answers to them.
        python: Interpreter of the peer's environment.
        folder: An empty folder for what the peer writes.
        cores: Cores of this machine.
    """

    repository: Path
    name: str
    model: Path
    input: str
    output: str
    rows: tuple[Array, ...]
    answers: tuple[Array, ...]
    python: Path
    folder: Path
    cores: int

    def layout(self, setup: str) -> tuple[int, int]:
        """Workers, and threads in each."""
        workers, threads = LAYOUTS[setup]
        return workers or self.cores, threads or self.cores

    def env(self, setup: str, **settings: object) -> dict[str, str]:
        """The environment for a program of `services/`; setup and settings become PEER_ variables."""
        workers, threads = self.layout(setup)
        settings |= {"workers": workers, "threads": threads, "spin": int(setup != ASLEEP)}
        named = {f"PEER_{name.upper()}": str(value) for name, value in settings.items()}
        path = f"{self.python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
        about = {"PEER_MODEL": str(self.model), "PYTHONPATH": str(SERVICES), "PATH": path}
        return {**results.environment(), **about, **named}


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to ask.

    Attributes:
        requests: One for each row of the job.
        read: Takes the answer's bytes, gives its numbers.
    """

    requests: Sequence[Request]
    read: Callable[[bytes], Array]


@dataclass(frozen=True, kw_only=True)
class Serving:
    """A peer that is up.

    Attributes:
        url: Its base URL.
        ways: What the results call it -> how it is asked.
        used_s: Gives the processor seconds that its living processes have used so far.
    """

    url: str
    ways: Mapping[str, Way]
    used_s: Callable[[], float] = float


def raw(job: Job, path: str, headers: Mapping[str, str] | None = None) -> Way:
    """The array's bytes there and back."""
    headers = headers or {"Content-Type": "application/octet-stream"}
    return Way(
        requests=[Request(path=path, body=row.tobytes(), headers=headers) for row in job.rows],
        read=floats,
    )


def floats(content: bytes) -> Array:
    """The numbers of an answer in raw bytes."""
    return np.frombuffer(content, dtype=np.float32)


def as_json(job: Job, path: str, body: Callable[[Array], Any], read: Callable[[Any], Any]) -> Way:
    """JSON there and back.

    Args:
        job: What is asked.
        path: Where.
        body: Row -> what is sent.
        read: Parsed answer -> its numbers, in whatever lists.
    """
    headers = {"Content-Type": "application/json"}
    return Way(
        requests=[Request(path=path, body=json.dumps(body(row)).encode(), headers=headers) for row in job.rows],
        read=lambda content: np.asarray(read(json.loads(content)), dtype=np.float32).ravel(),
    )


def base64_of(row: Array) -> str:
    """The array's bytes for JSON."""
    return base64.b64encode(row.tobytes()).decode()


def from_base64(text: str) -> Array:
    """The numbers of an answer in base64."""
    return floats(base64.b64decode(text))


@contextlib.contextmanager
def serve(
    job: Job, command: Sequence[str], env: Mapping[str, str], serving: Serving, *, timeout_s: float = 120.0
) -> Iterator[Serving]:
    """Start a peer, wait until it answers and has become quiet; at the end nothing of it is left.

    Raises:
        ServerTimeoutError: It ended, or did not answer in time.
    """
    mark = uuid.uuid4().hex
    log = job.folder / "log"
    way = next(iter(serving.ways.values()))

    def answers() -> bool:
        with contextlib.suppress(ClientError):
            post(serving.url, way.requests[0])
            return True
        return False

    try:
        with contextlib.closing(Stopped(Child(command, log=log, env={**env, MARK: mark}, cwd=job.folder))) as running:
            child = running.child
            wait_until(lambda: child.returncode() is not None or answers(), timeout_s=timeout_s, interval_s=0.1)
            if child.returncode() is not None or not answers():
                raise ServerTimeoutError(
                    f"{Path(command[0]).name} for {job.name} does not answer",
                    why=child.log_tail(15) or f"it said nothing for {timeout_s:g} s",
                    fix=f"run it by hand: {' '.join(command)}",
                    timeout_s=timeout_s,
                    log_tail=child.log_tail(),
                )
            settle(mark)
            yield replace(serving, used_s=lambda: used_s(mark))
    finally:
        sweep(mark)


class Stopped:
    """A child that gets some seconds to end, for what it leaves in /dev/shm; `sweep` comes after it."""

    def __init__(self, child: Child) -> None:
        self.child = child

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(ProcessError):
            self.child.stop(grace_s=8.0, first=signal.SIGTERM)


def family(mark: str) -> list[psutil.Process]:
    """The processes that were started with this mark, whoever their parents are now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def used_s(mark: str) -> float:
    """Processor seconds of the living processes with this mark."""
    total = 0.0
    for process in family(mark):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def settle(mark: str, *, timeout_s: float = 10.0, busy: float = 0.3) -> None:
    """Wait until a peer's processes together use less than `busy` of a core: all its workers have loaded the model."""
    end = time.monotonic() + timeout_s
    before = used_s(mark)
    while time.monotonic() < end:
        time.sleep(0.5)
        now = used_s(mark)
        if now - before < busy * 0.5:
            return
        before = now


def sweep(mark: str) -> None:
    """End what a peer left running.

    Raises:
        ProcessError: Something is still there.
    """
    for process in (left := family(mark)):
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=10.0)
    if left := family(mark):
        raise ProcessError(
            "processes of a peer cannot be ended",
            why=", ".join(f"{process.pid} {process.name()}" for process in left),
            fix="end them by hand",
        )


def check(job: Job, serving: Serving) -> None:
    """Every way gives ONNX Runtime's own answers, when asked alone and when requests come at the same time.

    Raises:
        VerificationError: It does not.
    """
    for name, way in serving.ways.items():
        alone = [post(serving.url, request) for request in way.requests]
        with ThreadPoolExecutor(8) as pool:
            many = list(pool.map(partial(post, serving.url), [*way.requests] * 2))
        for answer, right in zip(map(way.read, [*alone, *many]), job.answers * 3, strict=True):
            if answer.shape != right.shape or not np.allclose(answer, right, rtol=CLOSE, atol=CLOSE):
                raise VerificationError(
                    f"{name} answers wrongly for {job.name}",
                    why=f"{answer.ravel()[:4]} instead of {right.ravel()[:4]}",
                    fix="look at its service in benchmarks/peers/services",
                )
