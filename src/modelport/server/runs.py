"""One folder in the state folder for each start of a server: what a killed parent leaves is found and ended by it.

    <state>/runs/<token>/lock     held by the process that started the server, freed by the kernel when that dies
    <state>/runs/<token>/trial/   a second model repository of that server, empty at first

The token is the prefix of the server's shared memory, and it is in the argument list of the server and of its stubs. So
what belongs to a start is known without any number that could have been given to another process since.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

from modelport.errors import EnvironmentUnfitError
from modelport.server import shared_memory

RUNS = "runs"
_LOCK, _TRIAL = "lock", "trial"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
_GRACE_S = 3.0  # for the requests in flight, and again for the kernel


@dataclass(frozen=True, kw_only=True)
class Cleared:
    """What was left of one start whose parent was killed, and is gone now.

    Attributes:
        token: The start's token.
        processes: Numbers of the processes that were ended, the server among them.
        shared_memory: Names of the entries of `/dev/shm` that were removed.
    """

    token: str
    processes: tuple[int, ...]
    shared_memory: tuple[str, ...]

    def __str__(self) -> str:
        ended = f"ended processes {', '.join(map(str, self.processes))}" if self.processes else "no process was left"
        return f"cleared what a killed service left: {ended}, removed {len(self.shared_memory)} shared-memory entries"


class Run:
    """The folder of one start, held until `close`.

    Args:
        state: The state folder.
        prefix: Prefix of the server's shared memory.

    Raises:
        EnvironmentUnfitError: The state folder cannot be written.
    """

    def __init__(self, state: Path, prefix: str) -> None:
        self.folder = state / RUNS / prefix.removesuffix("_")
        self.trial = self.folder / _TRIAL
        try:
            self._lock = self._hold()
        except OSError as exc:
            raise EnvironmentUnfitError(
                f"the server's run folder {self.folder} cannot be made",
                why=str(exc),
                fix="make the state folder writable, or name another one with state_dir=",
            ) from exc

    def close(self) -> None:
        """Remove the server's shared memory and the folder, and free the lock. The server must have ended."""
        shared_memory.remove(prefix_of(self.folder.name))
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def _hold(self) -> int:
        while True:
            self.trial.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                lock = os.open(self.folder / _LOCK, _FLAGS, 0o600)
                fcntl.flock(lock, fcntl.LOCK_EX)
                if _same(lock, self.folder / _LOCK) and self.trial.is_dir():
                    return lock
                os.close(lock)  # another process took the new folder for one that was left, and removed it


def clear_stale(state: Path) -> tuple[Cleared, ...]:
    """End the servers of this state folder whose parent was killed, with their stubs, shared memory and folders.

    A start whose parent lives is left alone, also when its server has died: the parent cleans up.

    Args:
        state: The state folder; it may be missing.

    Returns:
        What was found of each; empty when nothing was left.
    """
    found = []
    for folder in sorted((state / RUNS).glob("*")):
        with contextlib.suppress(OSError):  # its parent lives, or another process clears it now
            lock = os.open(folder / _LOCK, _FLAGS, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                ended = end(prefix_of(folder.name))
                removed = shared_memory.remove(prefix_of(folder.name))
                shutil.rmtree(folder)
                found.append(Cleared(token=folder.name, processes=ended, shared_memory=tuple(removed)))
            finally:
                os.close(lock)
    return tuple(found)


def processes(prefix: str) -> list[psutil.Process]:
    """The server and the stubs of one start that run now, found by their argument lists.

    Args:
        prefix: Prefix of the server's shared memory.
    """
    found = []
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):
            if (process.info["name"] or "").startswith("triton") and any(prefix in a for a in process.cmdline()):
                found.append(process)
    return found


def end(prefix: str) -> tuple[int, ...]:
    """End the server and the stubs of one start, with SIGKILL where SIGTERM does not help.

    Returns:
        The numbers of the processes that ended.
    """
    family = processes(prefix)
    for process in family:
        with contextlib.suppress(psutil.Error):
            if process.name().startswith("tritonserver"):
                process.terminate()  # it ends its stubs itself
    _, left = psutil.wait_procs(family, timeout=_GRACE_S)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    _, left = psutil.wait_procs(left, timeout=_GRACE_S)
    return tuple(sorted({process.pid for process in family} - {process.pid for process in left}))


def prefix_of(token: str) -> str:
    """The prefix of the shared memory of the start with this token."""
    return f"{token}_"


def _same(lock: int, path: Path) -> bool:
    """Whether the open file is still the one at `path`."""
    held, there = os.fstat(lock), path.stat()
    return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)
