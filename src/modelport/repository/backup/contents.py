"""What a backup is: a tar file with the repository, its state folder, and a first member that says what is in it.

modelport-backup.json      when, by which modelport, of which models and versions
repository/<model>/...     all of it
state/...                  keys, quota, usage, aliases' history: what a new process cannot find out by itself
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

ABOUT = "modelport-backup.json"
REPOSITORY, STATE = "repository", "state"
FORMAT = 1
# Of the state folder: what belongs to processes that run, what they said, and what a server makes anew.
_PASSING = frozenset({"lock", "locks", "logs", "optimise", "runs", "staging", "trial", "serve.lock", "server.json"})
_PASSING_BELOW = {"gateway": frozenset({"followed", "bootstrap.json", "envoy.log", "openapi"})}
_PASSING_ENDS = (".lock", ".sock", ".tmp", "-wal", "-shm")


@dataclass(frozen=True, kw_only=True)
class Backup:
    """A backup that was written or read.

    Attributes:
        path: The file.
        created: When it was begun, ISO 8601 in UTC.
        modelport: The version that wrote it.
        models: Model to its versions.
        files: How many files are in it.
        size_bytes: Of the files in it.
        left_out: What is no ordinary file, and so not in it.
    """

    path: str
    created: str
    modelport: str
    models: Mapping[str, tuple[int, ...]]
    files: int = 0
    size_bytes: int = 0
    left_out: tuple[str, ...] = ()


def belongs(place: PurePosixPath) -> bool:
    """Whether a file or folder of the state folder is kept; `place` is below it."""
    first, *below = place.parts
    if first in _PASSING or place.name.endswith(_PASSING_ENDS) or place.name.startswith("access.log"):
        return False
    return not below or below[0] not in _PASSING_BELOW.get(first, frozenset())
