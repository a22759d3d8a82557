"""What all tests share: tools that must be there, free ports, and the check that nothing is left behind."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED_MEMORY = Path("/dev/shm")
SERVER_PROGRAMS = ("tritonserver", "triton_python_b")  # beginnings: the kernel keeps 15 letters of a name
MARK = "MODELPORT_TEST_SESSION"


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def require() -> Callable[..., None]:
    """`require("wrk")` or `require("a GPU", present=found)`: missing means fail with CI=true, else skip."""

    def check(what: str, present: bool | None = None) -> None:
        if shutil.which(what) is not None if present is None else present:
            return
        if os.environ.get("CI") == "true":
            pytest.fail(f"{what} is missing, and with CI=true nothing is skipped")
        pytest.skip(f"{what} is missing")

    return check


@pytest.fixture
def free_port() -> Callable[[], int]:
    """`free_port()`: a port of 127.0.0.1 on which nothing listens; another one at each call."""
    given: set[int] = set()

    def find() -> int:
        while True:
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", 0))
                port = int(sock.getsockname()[1])
            if port not in given:
                given.add(port)
                return port

    return find


@pytest.fixture(scope="session", autouse=True)
def no_variables() -> None:
    """Variables that the command reads, set by whoever runs the tests, must not reach them."""
    for name in [name for name in os.environ if name.startswith("MODELPORT_") and name != MARK]:
        del os.environ[name]


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """After the last test: no server process of this session, and no new shared memory that nobody uses."""
    outer = os.environ.get(MARK)
    os.environ[MARK] = mark = f"{os.getpid()}-{time.time_ns()}"
    before = set(SHARED_MEMORY.iterdir())
    yield
    deadline = time.monotonic() + 5.0
    while (left := _left_behind(mark, before)) and time.monotonic() < deadline:
        time.sleep(0.2)
    if outer is None:
        del os.environ[MARK]
    else:
        os.environ[MARK] = outer
    assert not left, f"the tests left behind: {', '.join(left)}"


def _left_behind(mark: str, before: set[Path]) -> list[str]:
    mapped = ""
    processes = []
    for process in psutil.process_iter(["name"]):
        try:
            name = process.info["name"] or ""
            if name.startswith(SERVER_PROGRAMS) and process.environ().get(MARK) == mark:
                processes.append(f"process {process.pid} ({name})")
            mapped += Path(f"/proc/{process.pid}/maps").read_text(errors="replace")
        except (psutil.Error, OSError):
            continue
    # Servers of other sessions may run on this machine: what a living process maps is not ours to judge.
    new = sorted(str(path) for path in set(SHARED_MEMORY.iterdir()) - before)
    return processes + [path for path in new if path not in mapped]
