"""Where half-done work on a version is kept, so that the same command goes on: training, and what a ladder tried."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from modelport.errors import RepositoryLockedError
from modelport.repository import disk, lock
from modelport.repository.layout import state_folder

FOLDER, LOCK_FILE, LOCK_WAIT_S = "optimise", "lock", 1.0


def folder(repository: Path, reference: str, what: str, settings: Mapping[str, object]) -> Path:
    """The folder for one piece of work; it need not exist.

    Args:
        repository: The model repository.
        reference: `NAME/VERSION` of the version that is optimised.
        what: What is done with it, in one word.
        settings: Everything that decides the outcome, as JSON takes it.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    return state_folder(repository) / FOLDER / f"{reference.replace('/', '-')}-{what}-{digest}"


@contextlib.contextmanager
def held(place: Path, what: str) -> Iterator[None]:
    """Such a folder, made and locked.

    Args:
        place: The folder.
        what: What is being done by whoever holds it.

    Raises:
        RepositoryLockedError: Another process does the same.
        RepositoryError: The disk refused.
    """
    with disk.errors(place):
        place.mkdir(parents=True, exist_ok=True)
    with lock.file(place / LOCK_FILE, what, timeout_s=LOCK_WAIT_S):
        yield


def forget(repository: Path, model: str, version: int) -> None:
    """Remove what is kept for a version that is gone, but for what another process is doing."""
    own = re.compile(rf"{re.escape(model)}-{version}-[a-z]+-[0-9a-f]{{12}}")
    top = state_folder(repository) / FOLDER
    for found in sorted(top.iterdir()) if top.is_dir() else ():
        if own.fullmatch(found.name):
            with (
                contextlib.suppress(RepositoryLockedError),
                lock.file(found / LOCK_FILE, f"{model}/{version} is being optimised", timeout_s=0),
            ):
                shutil.rmtree(found, ignore_errors=True)
