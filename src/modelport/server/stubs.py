"""The processes in which Triton runs Python models and Python-based backends: one for each instance of a version.

Triton does not notice that a stub died, was stopped or hangs, and goes on calling its model ready; `restoring` tells
what to do about it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from modelport._process import wait_until
from modelport.server import shared_memory

if TYPE_CHECKING:
    from modelport.server.handle import ServerHandle

PROGRAM = "triton_python_backend_stub"
MANY_DEAD = 20  # with so many dead stubs, some 700 threads sleep in the server
SETTLED_S = 10.0  # a stub takes its region into use within a moment
_STOPPED = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
_FILE, _REGION, _INSTANCE = 1, 2, 8  # places in a stub's argument list


@dataclass(frozen=True, kw_only=True)
class Stub:
    """One living stub.

    Attributes:
        process: Its process.
        model: The model that it runs; `<model>.trial` for one that is being tried.
        version: The version.
        instance: The instance's name, such as `digits_cnn_0_1`.
        region: Name of its shared memory in `/dev/shm`.
        stopped: Whether it was stopped, by SIGSTOP or a debugger.
    """

    process: psutil.Process
    model: str
    version: int
    instance: str
    region: str
    stopped: bool

    @property
    def pid(self) -> int:
        """Its process number."""
        return self.process.pid

    def lives(self) -> bool:
        """Whether it still runs, or could run again."""
        try:
            return self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def find(handle: ServerHandle, model: str = "") -> tuple[Stub, ...]:
    """The living stubs of a server, of all its models or of one.

    Those that died are left out: the kernel keeps their numbers, and nothing tells any more what they were.
    """
    found = [stub for process in _children(handle.server_pid) if (stub := _stub(process, handle)) is not None]
    return tuple(sorted((s for s in found if model in ("", s.model)), key=lambda s: (s.model, s.version, s.instance)))


def dead(handle: ServerHandle) -> int:
    """How many stubs have died and are kept by the server.

    A request that a stub could not answer keeps its instance in the server for good (seen with 2.51.0), and with it the
    process entry, some 35 sleeping threads, and the memory of its region. They go when the server does.
    """
    count = 0
    for process in _children(handle.server_pid):
        with contextlib.suppress(psutil.Error):
            count += process.status() == psutil.STATUS_ZOMBIE
    return count


def hint(count: int) -> str:
    """What to do about so many dead stubs; empty where they do not matter yet."""
    if count < MANY_DEAD:
        return ""
    threads = "and some 35 sleeping threads for each"
    return f"the server keeps {count} dead processes of models, {threads}: restart 'modelport serve' when it suits you"


def finish(stubs: Iterable[Stub], *, grace_s: float = 0.0) -> tuple[int, ...]:
    """Wait until stubs have ended by themselves, kill those that have not, and remove what they leave in `/dev/shm`.

    Args:
        stubs: Stubs that were told to end, or that must.
        grace_s: Seconds that they may take.

    Returns:
        The process numbers of those that were killed.
    """
    family = tuple(stubs)
    wait_until(lambda: not any(stub.lives() for stub in family), timeout_s=grace_s)
    left = [stub for stub in family if stub.lives()]
    for stub in left:
        with contextlib.suppress(psutil.Error):
            stub.process.kill()
    wait_until(lambda: not any(stub.lives() for stub in left), timeout_s=5.0)
    for stub in family:
        if not stub.lives():
            (shared_memory.FOLDER / stub.region).unlink(missing_ok=True)
    return tuple(stub.pid for stub in left)


def sweep(handle: ServerHandle, *, settled_s: float = SETTLED_S) -> tuple[str, ...]:
    """Remove the names of shared memory that no living stub uses; the server does not do it for one that died.

    Args:
        handle: The server.
        settled_s: Age in seconds from which a region counts; a younger one may belong to a stub that only just starts.

    Returns:
        The names that were removed.
    """
    used = {stub.region for stub in find(handle)}
    removed = []
    for path in shared_memory.entries(handle.shm_prefix):
        with contextlib.suppress(FileNotFoundError):
            if path.name not in used and time.time() - path.stat().st_ctime > settled_s:
                path.unlink()
                removed.append(path.name)
    return tuple(removed)


def _children(server_pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(server_pid).children()
    except psutil.Error:
        return []


def _words(process: psutil.Process) -> list[str]:
    """The argument list of a stub; empty for another program, and for one that has ended."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return []
    return words if len(words) > _INSTANCE and Path(words[0]).name == PROGRAM else []


def _stub(process: psutil.Process, handle: ServerHandle) -> Stub | None:
    words = _words(process)
    for root in (handle.repository, handle.trial):
        if not words or root is None or not Path(words[_FILE]).is_relative_to(root):
            continue
        with contextlib.suppress(ValueError, psutil.Error):
            model, version = Path(words[_FILE]).relative_to(root).parts[:2]
            return Stub(
                process=process,
                model=model,
                version=int(version),
                instance=words[_INSTANCE],
                region=words[_REGION],
                stopped=process.status() in _STOPPED,
            )
    return None
