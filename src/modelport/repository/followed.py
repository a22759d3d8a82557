"""What the gateway has taken in of the models' configurations: a change that takes a version out waits for that.

The gateway sends calls to the versions that its last look found. One that is unloaded before it has looked again would
still be asked, and refuse.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from modelport.repository.layout import CONFIG_FILE, config_path, state_folder

FILE, LOCK = "followed.json", "followed.lock"
WAIT_S = 3.0
_LOOK_S = 0.02
Seen = Mapping[str, tuple[int, int]]


class Follower:
    """Says that somebody follows a repository, until it is closed or its process ends.

    Args:
        repository: The model repository.
    """

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._file: IO[bytes] | None = None

    def look(self) -> Seen:
        """The configurations that are there now; to be noted once they are followed."""
        return {
            path.parent.name: mark
            for path in self._repository.glob(f"*/{CONFIG_FILE}")
            if (mark := _mark(path)) is not None
        }

    def note(self, seen: Seen) -> None:
        """What `look` gave is followed from now on."""
        folder = state_folder(self._repository)
        if self._file is None:
            self._file = (folder / LOCK).open("ab")
            fcntl.flock(self._file, fcntl.LOCK_SH)
        beside = folder / f".{FILE}.{os.getpid()}"
        beside.write_text(json.dumps(seen))
        beside.replace(folder / FILE)

    def close(self) -> None:
        """Nobody is to wait for this any more."""
        if self._file is not None:
            self._file.close()
            self._file = None


def wait(repository: Path, model: str, *, timeout_s: float = WAIT_S) -> bool:
    """Wait until the model's configuration as it is now is followed. At once where nobody follows.

    Args:
        repository: The model repository.
        model: Model name.
        timeout_s: The longest wait; a gateway that refuses what it finds holds up no change.

    Returns:
        Whether it is followed, or nobody follows.
    """
    path, end = config_path(repository, model), time.monotonic() + timeout_s
    while _somebody(repository):
        if _noted(repository).get(model) == _mark(path):
            return True
        if time.monotonic() > end:
            return False
        time.sleep(_LOOK_S)
    return True


def _somebody(repository: Path) -> bool:
    try:
        with (state_folder(repository) / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _noted(repository: Path) -> Seen:
    try:
        found = json.loads((state_folder(repository) / FILE).read_text())
        return {str(name): (int(at), int(inode)) for name, (at, inode) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _mark(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
