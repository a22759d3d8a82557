"""What all tests share: tools that must be there, free ports, and the check that nothing is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED_MEMORY = Path("/dev/shm")
SERVER_PROGRAMS = ("tritonserver", "triton_python_b")  # beginnings: the kernel keeps 15 letters of a name
MARK = "MODELPORT_TEST_SESSION"
BEFORE = pytest.StashKey[tuple[str | None, set[Path]]]()
LEFT = pytest.StashKey[list[str]]()


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


@pytest.fixture(scope="session")
def apart(require: Callable[..., None]) -> Callable[[Sequence[str], Sequence[str]], list[str]]:
    """`apart(["mount ...", ...], line)`: runs a line where these mounts are made first, and nobody else sees them."""
    own = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    require("a mount namespace of one's own (unshare)", subprocess.run([*own, "true"], check=False).returncode == 0)
    return lambda script, line: [*own, "sh", "-c", "\n".join(["set -e", *script, 'exec "$@"']), "sh", *line]


@pytest.fixture(scope="session")
def beside() -> Callable[[int, str, Sequence[str]], list[str]]:
    """`beside(pid, folder, line)`: runs a line in that folder, as a process sees it that was started `apart`."""
    own = ["nsenter", "--mount", *([] if os.geteuid() == 0 else ["--user", "--preserve-credentials"])]
    inside = ["sh", "-c", 'cd "$0" && exec "$@"']
    return lambda pid, folder, line: [*own, f"--target={pid}", *inside, folder, *line]


@pytest.fixture(scope="session")
def native(require: Callable[..., None]) -> None:
    """For tests of what only the compiled backend does."""
    from modelport.server import toolchain

    library = toolchain.NATIVE.is_file() and toolchain.find_onnxruntime() is not None
    require("the compiled backend for ONNX models (install modelport where there is a C++ compiler)", library)


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


def pytest_configure() -> None:
    """Signals that whoever runs the tests ignores (nohup, a shell's `&`) do what they do in a terminal."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Mark this run's processes, and remember whose shared memory was there before; workers inherit the mark."""
    if not _is_worker(session):
        session.config.stash[BEFORE] = os.environ.get(MARK), set(SHARED_MEMORY.iterdir())
        os.environ[MARK] = f"{os.getpid()}-{time.time_ns()}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """After the last test of all workers: no server process of this run, and no new shared memory that nobody uses."""
    if _is_worker(session):
        return
    outer, before = session.config.stash[BEFORE]
    deadline = time.monotonic() + 5.0
    while (left := _left_behind(os.environ[MARK], before)) and time.monotonic() < deadline:
        time.sleep(0.2)
    if outer is None:
        del os.environ[MARK]
    else:
        os.environ[MARK] = outer
    session.config.stash[LEFT] = left
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left behind."""
    if left := config.stash.get(LEFT, []):
        terminalreporter.section("left behind", red=True)
        terminalreporter.line(f"the tests left behind: {', '.join(left)}")


def _is_worker(session: pytest.Session) -> bool:
    """Whether this is one of the processes among which pytest-xdist shares out the tests."""
    return hasattr(session.config, "workerinput")


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
