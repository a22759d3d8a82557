"""Shared-memory files of one server start, found and removed by their prefix.

Triton's Python backend puts one region per model instance into `/dev/shm`. A stopped server removes its own; one that
was killed leaves them, and they hold memory until somebody removes them.
"""

from __future__ import annotations

import secrets
from pathlib import Path

FOLDER = Path("/dev/shm")  # noqa: S108 - it is the place, not a temporary file


def new_prefix() -> str:
    """A prefix that no other start uses."""
    return f"modelport_{secrets.token_hex(6)}_"


def entries(prefix: str) -> list[Path]:
    """The entries in `/dev/shm` that begin with `prefix`."""
    return sorted(FOLDER.glob(f"{prefix}*"))


def remove(prefix: str) -> list[str]:
    """Remove the entries that begin with `prefix`; the names of those removed."""
    removed = []
    for path in entries(prefix):
        path.unlink(missing_ok=True)
        removed.append(path.name)
    return removed
