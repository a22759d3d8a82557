"""One writer at a time: an flock in the state folder. The kernel frees it when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from modelport.errors import RepositoryLockedError
from modelport.repository.layout import state_folder

LOCK_FILE = "lock"


@contextlib.contextmanager
def writer(repository: Path, *, timeout_s: float = 60.0) -> Iterator[Path]:
    """Hold the repository's lock; gives the state folder.

    Raises:
        RepositoryLockedError: Another process held it for `timeout_s`; the message names it.
    """
    state = state_folder(repository)
    state.mkdir(parents=True, exist_ok=True)
    with (state / LOCK_FILE).open("a+", encoding="utf-8") as file:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as exc:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                file.seek(0)
                holder = file.read().strip() or "an unknown process"
                raise RepositoryLockedError(
                    f"{repository} is being written by process {holder}",
                    why=f"it held the lock for {timeout_s:g} s",
                    fix="wait for it to end, or end it; the lock is then free",
                    holder=holder,
                ) from exc
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield state
