"""One gateway for a repository: the second is told which process has it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from modelport.errors import ServerError

LOCK_FILE = "gateway.lock"


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the right to run the gateway of a folder. The kernel frees it when this process ends, however it does.

    Raises:
        ServerError: Another process has it; the message names it.
    """
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            pid = os.pread(descriptor, 100, 0).decode("utf-8", "replace").strip()
            raise ServerError(
                "a gateway runs for this repository already",
                why=f"process {pid or 'unknown'} runs it, with its files in {folder}",
                fix="use that one, or stop it first",
            ) from exc
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
