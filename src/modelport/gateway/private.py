"""The gateway's own folder, `<state>/gateway`, and files in it that only their owner may read.

with private.locked(repository, "keys"):
    private.write(path, content)
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from modelport.repository import disk, lock
from modelport.repository.layout import state_folder

FOLDER = "gateway"


def folder(repository: Path, *below: str) -> Path:
    """The gateway's folder, or one below it; it need not exist."""
    return state_folder(repository).joinpath(FOLDER, *below)


@contextlib.contextmanager
def locked(repository: Path, area: str) -> Iterator[Path]:
    """Let nobody else change an area of the gateway's folder meanwhile; gives the area's folder, made with 0700.

    Args:
        repository: The model repository.
        area: A folder below the gateway's, such as `keys`.

    Raises:
        RepositoryLockedError: Another process held the lock for a minute; the message names it.
        RepositoryError: The disk refuses.
    """
    with disk.errors(repository):
        _make(folder(repository))
        with lock.file(folder(repository, f"{area}.lock"), f"the gateway's {area} are being changed"):
            found = _make(folder(repository, area))
            for left in found.glob(".*.tmp"):  # of a command that was killed
                left.unlink()
            yield found


@contextlib.contextmanager
def socket_name(path: Path) -> Iterator[str]:
    """A name under which a Unix socket can be made or reached, however long its path is: names have 107 bytes at most.

    Raises:
        OSError: Its folder cannot be opened.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def write(path: Path, content: bytes) -> None:
    """Replace a file in one step, or make it. Only its owner may read it, whatever held before.

    Args:
        path: The file; its folder is there.
        content: All of it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        disk.move(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _make(path: Path) -> Path:
    disk.make_folder(path)
    path.chmod(0o700)
    return path
