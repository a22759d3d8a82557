"""The state folder beside the repository: what commands left there that were killed."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from modelport.repository import lock
from modelport.repository.doctor.context import Context
from modelport.repository.doctor.finding import Finding, Rule
from modelport.repository.doctor.model import entries
from modelport.repository.journal import JOURNAL, STAGING

STAGING_LEFT = Rule(
    id="staging-left",
    severity="warning",
    title="The state folder holds what an export that was killed left behind",
    why="it takes space",
    fix="remove it; the next export does so too",
    repair="clean",
)
JOURNAL_LEFT = Rule(
    id="journal-left",
    severity="warning",
    title="The state folder holds the note of an operation that was killed",
    why="files may not be in place yet, or a configuration may be in force that was never proved",
    fix="repair it; the next command that changes the model does so too",
    repair="clean",
)
RULES = (STAGING_LEFT, JOURNAL_LEFT)

_YOUNG_S = 60.0  # an export makes its folder, then locks it


def check(context: Context) -> Iterator[Finding]:
    """Staging and journal; only when the whole repository is looked at."""
    if not context.whole:
        return
    for path in entries(context.state / STAGING):
        if _is_dead(path):
            yield STAGING_LEFT.found(f"{path.name!r} has no owner any more", context.at_path(path))
    for path in entries(context.state / JOURNAL):
        if path.suffix == ".json" and not _is_held(context.state / lock.LOCKS / f"{path.stem}.lock"):
            yield JOURNAL_LEFT.found(f"the operation on {path.stem!r} did not end", context.at_path(path))


def _is_dead(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _YOUNG_S and not (path.is_dir() and _is_held(path))
    except OSError:  # gone meanwhile
        return False


def _is_held(path: Path) -> bool:
    """Whether a process holds the lock of a file or folder; the question leaves no trace."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
