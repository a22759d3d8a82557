"""The embedded server's log files: one for each start, of which the newest are kept."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path

from modelport.errors import EnvironmentUnfitError

KEPT = 10


def name(folder: Path) -> Path:
    """A path in `folder` that no other start uses."""
    return folder / f"triton-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{secrets.token_hex(4)}.log"


def create(folder: Path) -> Path:
    """Make an empty log in `folder`, and remove the oldest ones.

    Raises:
        EnvironmentUnfitError: The folder cannot be written.
    """
    log = name(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log.touch()
        with contextlib.suppress(FileNotFoundError):  # another server removes old ones at the same time
            for path in sorted(folder.glob("triton-*.log"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
                path.unlink(missing_ok=True)
    except OSError as exc:
        raise EnvironmentUnfitError(
            f"the server's log cannot be written in {folder}",
            why=str(exc),
            fix="make the folder writable, or name another one with state_dir=",
        ) from exc
    return log
