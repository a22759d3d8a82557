"""`modelport serve` as a process, and what its supervisor says."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from modelport.server import connection, shared_memory, stubs
from modelport.server.handle import ServerHandle

START_S = 60.0
OPTIONS = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0", "--no-watch", "--probe-interval", "1")


class Service:
    """A running `modelport serve`.

    Args:
        root: The repository.
        words: Further options.
    """

    def __init__(self, root: Path, *words: str) -> None:
        self.root = root
        command = [sys.executable, "-m", "modelport", "serve", "--repository", str(root), *OPTIONS]
        self.process = subprocess.Popen(
            [*command, "--log-format", "json", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out: list[str] = []
        self.err: list[str] = []
        for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err)):
            threading.Thread(target=self._read, args=(stream, lines), daemon=True).start()

    def started(self) -> Service:
        """Once it has told its URLs."""
        until(lambda: any("Ctrl-C" in line for line in self.out) or self.process.poll() is not None, START_S)
        assert self.process.poll() is None, "".join(self.err)
        return self

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def handle(self) -> ServerHandle:
        """The server of this moment, as any command finds it."""
        handle = connection.read(connection.state_folder(self.root))
        assert handle is not None
        return handle

    @property
    def http_url(self) -> str:
        return self._told("HTTP")

    @property
    def grpc_url(self) -> str:
        return self._told("gRPC")

    @property
    def health_url(self) -> str:
        return self._told("health").removesuffix("/readyz")

    def get(self, page: str) -> tuple[int, Any]:
        """Status and content of one of the supervisor's pages; (0, "") while it does not answer."""
        try:
            with urllib.request.urlopen(f"{self.health_url}/{page}", timeout=5) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        except OSError:
            return 0, ""
        return status, text if page == "metrics" else json.loads(text)

    def ready(self, model: str = "") -> bool:
        return self.get(f"readyz/{model}" if model else "readyz")[0] == 200

    def await_ready(self, timeout_s: float) -> None:
        until(self.ready, timeout_s, lambda: f"not ready: {self.get('readyz')}, {self.kinds()}")

    def events(self) -> list[dict[str, Any]]:
        """What happened, as it said on standard error; an error that ends it is the only line that is not JSON."""
        return [json.loads(line) for line in list(self.err) if line.startswith("{")]

    def kinds(self, model: str | None = None) -> list[str]:
        """The kinds of its events, of one model or of all."""
        return [event["kind"] for event in self.events() if model in (None, event["model"])]

    def stubs(self, model: str) -> list[int]:
        """The processes of a model that live."""
        return [stub.pid for stub in stubs.find(self.handle, model)]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end, and wait; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)

    def kill(self) -> None:
        """Whatever happened: nothing of it is left."""
        handle = connection.read(connection.state_folder(self.root))
        if self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.terminate()
                self.process.wait(40)
        self.process.kill()
        self.process.wait(10)
        if handle is not None and handle.running():
            os.kill(handle.server_pid, signal.SIGKILL)

    def _told(self, word: str) -> str:
        return next(line.split()[1] for line in self.out if line.split()[:1] == [word])

    @staticmethod
    def _read(stream: Any, lines: list[str]) -> None:
        for line in stream:
            lines.append(line)


class Watch:
    """Asks `/readyz` all the time: what it said, and when."""

    def __init__(self, service: Service, pause_s: float = 0.05) -> None:
        self._service = service
        self._pause_s = pause_s
        self.seen: list[tuple[float, int]] = []

    def __enter__(self) -> Watch:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def statuses(self) -> set[int]:
        return {status for _, status in self.seen}

    def _ask(self) -> None:
        while not self._stop.wait(self._pause_s):
            self.seen.append((time.monotonic(), self._service.get("readyz")[0]))


@dataclass(frozen=True)
class Held:
    """What the supervisor and its server hold: rule G compares two of these.

    `children` are those that live: of a stub that died with a request Triton keeps the entry in the process table.
    """

    server: int
    children: int
    shared_memory: int
    descriptors: int
    supervisor_descriptors: int
    stray: frozenset[str]

    @classmethod
    def of(cls, service: Service) -> Held:
        handle = service.handle
        server, supervisor = psutil.Process(handle.server_pid), psutil.Process(service.pid)
        family = server.children(recursive=True)
        return cls(
            server=handle.server_pid,
            children=sum(1 for child in family if child.status() != psutil.STATUS_ZOMBIE),
            shared_memory=len(shared_memory.entries(handle.shm_prefix)),
            descriptors=server.num_fds(),
            supervisor_descriptors=supervisor.num_fds(),
            stray=_stray(),
        )

    def violations(self, after: Held, *, same_server: bool = True, patience_s: float = 15.0) -> list[str]:
        """What rule G forbids, after this was seen before.

        A test beside this one may have killed its own server just now: what nobody removes in `patience_s` is left.
        """
        found = []
        if same_server and after.server != self.server:
            found.append(f"the server is another process: {self.server}, then {after.server}")
        for name in ("children", "shared_memory"):
            if getattr(after, name) > getattr(self, name):
                found.append(f"{name}: {getattr(self, name)}, then {getattr(after, name)}")
        # Connections that callers, probes and health checks happen to have open come and go.
        for name in ("descriptors", "supervisor_descriptors"):
            if getattr(after, name) > getattr(self, name) + 12:
                found.append(f"{name}: {getattr(self, name)}, then {getattr(after, name)}")
        left, deadline = after.stray - self.stray, time.monotonic() + patience_s
        while left and time.monotonic() < deadline:
            time.sleep(0.2)
            left &= _stray()
        return found + [f"left in /dev/shm: {name}" for name in sorted(left)]


def _stray() -> frozenset[str]:
    """The entries of /dev/shm that a server of modelport made and no living one has."""
    return frozenset(path.name for path in shared_memory.entries("modelport_")) - _mapped()


def _mapped() -> frozenset[str]:
    """The entries of /dev/shm that a living process maps, of any server on this machine."""
    found = set()
    for process in psutil.process_iter(["name"]):
        if (process.info["name"] or "").startswith("triton"):
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{process.pid}/maps").read_text(errors="replace").splitlines():
                    found.add(line.rpartition("/")[2].removesuffix(" (deleted)"))
    return frozenset(found)


def until(
    condition: Callable[[], bool], timeout_s: float, said: Callable[[], str] = lambda: "it did not happen"
) -> float:
    """Wait for a condition; the seconds that it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout_s, f"after {timeout_s} s: {said()}"
        time.sleep(0.05)
    return time.monotonic() - started


@pytest.fixture(scope="session")
def waiting() -> Callable[..., float]:
    """`waiting(condition, timeout_s)`: see `until`."""
    return until


@pytest.fixture
def shelf(shelf: Any, tmp_path: Path) -> Any:
    """An empty repository of this test alone."""
    (tmp_path / "model_repository").mkdir()
    return type(shelf)(tmp_path / "model_repository")


@pytest.fixture
def serve(shelf: Any) -> Iterator[Callable[..., Service]]:
    """`serve(*options)`: `modelport serve` of the shelf; ended after the test."""
    running: list[Service] = []

    def start(*words: str, root: Path | None = None, wait: bool = True) -> Service:
        running.append(Service(root or shelf.root, *words))
        return running[-1].started() if wait else running[-1]

    yield start
    for service in running:
        service.kill()


@pytest.fixture
def watched() -> type[Watch]:
    """`with watched(service) as watch`: see `Watch`."""
    return Watch


@pytest.fixture
def held() -> Callable[[Service], Held]:
    """`held(service)`: what it holds now; `before.violations(after)` is rule G."""
    return Held.of


@pytest.fixture
def changed() -> Callable[..., Held]:
    """`changed(held, children=3)`: the same with other figures, for negative controls."""
    return replace
