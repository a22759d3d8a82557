"""One supervisor for a repository: the second is told which one there is."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from modelport.errors import EnvironmentUnfitError, ServerError
from modelport.server import connection

LOCK_FILE = "serve.lock"


@contextlib.contextmanager
def only_one(repository: Path, state: Path) -> Iterator[None]:
    """Hold the right to supervise the repository. The kernel frees it when this process ends, however it does.

    Args:
        repository: The model repository, for messages.
        state: The state folder.

    Raises:
        ServerError: Another process has it; the message names it.
        EnvironmentUnfitError: The state folder cannot be written.
    """
    path = state / LOCK_FILE
    try:
        state.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise _unfit(path, exc) from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise _taken(repository, state, os.pread(descriptor, 100, 0).decode("utf-8", "replace").strip()) from exc
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as exc:
            raise _unfit(path, exc) from exc
        yield
    finally:
        os.close(descriptor)


def _unfit(path: Path, exc: OSError) -> EnvironmentUnfitError:
    return EnvironmentUnfitError(
        f"the file {path} cannot be written", why=str(exc), fix="make the state folder writable, and room on its disk"
    )


def _taken(repository: Path, state: Path, pid: str) -> ServerError:
    handle = connection.read(state)
    where = f" at {handle.http_url}" if handle is not None and handle.running() else ""
    return ServerError(
        f"{repository} is served already",
        why=f"'modelport serve' runs for it as process {pid or 'unknown'}{where}",
        fix="use that one ('modelport status' shows it), or stop it first",
    )
