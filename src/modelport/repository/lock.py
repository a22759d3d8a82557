"""Who may change what: an flock per model, and one for the repository's files. The kernel frees those of the dead.

    with model(repository, "digits_cnn"):        # promoting takes seconds; other models can be changed meanwhile
        with writer(repository):                 # short: the files change now
            ...

The order is always this one. A thread that holds a lock may take it again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from modelport.errors import RepositoryLockedError
from modelport.repository import disk
from modelport.repository.layout import state_folder
from modelport.spec import check_model_name

LOCK_FILE = "lock"
LOCKS = "locks"
WAIT_S = 60.0
MODEL_WAIT_S = 300.0  # another operation on the same model may load for minutes
TOLD_AFTER_S = 0.5
Report = Callable[[str], None]
_held = threading.local()


@contextlib.contextmanager
def writer(repository: Path, *, timeout_s: float = WAIT_S) -> Iterator[Path]:
    """Hold the lock of the repository's files; gives the state folder.

    Raises:
        RepositoryLockedError: Another process held it for `timeout_s`; the message names it.
    """
    state = state_folder(repository)
    with _lock(state / LOCK_FILE, f"{repository} is being written", timeout_s):
        yield state


@contextlib.contextmanager
def model(
    repository: Path, name: str, *, timeout_s: float = MODEL_WAIT_S, report: Report = lambda _: None
) -> Iterator[None]:
    """Hold the lock of one model: nobody else publishes, promotes or deletes versions of it meanwhile.

    Args:
        repository: The model repository.
        name: Model name.
        timeout_s: Seconds to wait for it.
        report: Told for whom this waits, where it is not free soon.

    Raises:
        RepositoryLockedError: Another process held it for `timeout_s`; the message names it.
    """
    path = state_folder(repository) / LOCKS / f"{check_model_name(name)}.lock"
    with _lock(path, f"model {name!r} is being changed", timeout_s, report):
        yield


@contextlib.contextmanager
def file(path: Path, what: str, *, timeout_s: float = WAIT_S) -> Iterator[None]:
    """Hold the lock of something else that two commands may write.

    Args:
        path: The lock's own file; it and its folder are made where they are missing.
        what: What is being done by whoever holds it, such as `the keys are being changed`.
        timeout_s: Seconds to wait for it.

    Raises:
        RepositoryLockedError: Another process held it for `timeout_s`; the message names it.
    """
    with _lock(path, what, timeout_s):
        yield


@contextlib.contextmanager
def _lock(path: Path, what: str, timeout_s: float, report: Report = lambda _: None) -> Iterator[None]:
    mine: set[Path] = _held.__dict__.setdefault("paths", set())
    if path in mine:
        yield
        return
    disk.make_folder(path.parent)
    with path.open("a+b", buffering=0) as file:
        _wait(file, what, timeout_s, report)
        with contextlib.suppress(OSError):  # the lock is held without it; on a full disk versions can be deleted
            file.truncate(0)
            file.write(f"{os.getpid()} ({_command()})\n".encode(errors="replace"))
        mine.add(path)
        try:
            yield
        finally:
            mine.discard(path)


def _wait(file: IO[bytes], what: str, timeout_s: float, report: Report) -> None:
    started, told = time.monotonic(), False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as exc:
            waited = time.monotonic() - started
            holder = _holder(file)
            if waited < timeout_s:
                if waited >= TOLD_AFTER_S and not told:
                    report(f"waiting: {what} by process {holder}")
                    told = True
                time.sleep(0.05)
                continue
            raise RepositoryLockedError(
                f"{what} by process {holder}",
                why=f"it held the lock for {timeout_s:g} s",
                fix="wait for it to end, or end it; the lock is then free",
                holder=holder,
            ) from exc


def _holder(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(1000).decode(errors="replace").strip() or "an unknown process"


def _command() -> str:
    """The program, and modelport's verb; never all arguments, which may be private."""
    program = Path(sys.argv[0] or "python").name
    program = "modelport" if program == "__main__.py" else program
    verb = next(iter(sys.argv[1:2]), "") if program == "modelport" else ""
    return f"{program} {verb}".strip()
