"""Which versions modelport itself brought into place, by publishing or adopting; all others were copied in.

One file for each model, `<state>/placed/<model>.json`: version number to the sha256 of its `manifest.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from modelport.repository import disk, lock
from modelport.repository.journal import STAGING
from modelport.repository.layout import state_folder
from modelport.repository.manifest import MANIFEST_FILE

PLACED = "placed"


def note(repository: Path, model: str, version: int, folder: Path) -> None:
    """Remember a version, before its manifest comes into place.

    Args:
        repository: The model repository.
        model: Model name; its lock is held by the caller.
        version: Version number.
        folder: Where its `manifest.json` is now; a version without one is not remembered.

    Raises:
        OSError: The disk refused.
        RepositoryLockedError: Another writer is at work.
    """
    if not (folder / MANIFEST_FILE).is_file():
        return
    found = {**known(repository, model), version: _digest(folder)}
    path = _path(repository, model)
    with lock.writer(repository) as state:
        disk.make_folder(path.parent)
        text = json.dumps({str(v): digest for v, digest in found.items()}) + "\n"
        disk.replace_text(path, text, through=state / STAGING)  # what a kill leaves there is removed


def known(repository: Path, model: str) -> Mapping[int, str]:
    """The versions of a model that were brought into place here; empty where nothing is known of the model."""
    try:
        content = json.loads(_path(repository, model).read_text(encoding="utf-8"))
        return {int(version): str(digest) for version, digest in content.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def ours(repository: Path, model: str, version: int) -> bool:
    """Whether the version's manifest is the one that was brought into place here."""
    digest = known(repository, model).get(version)
    try:
        return digest is not None and digest == _digest(repository / model / str(version))
    except OSError:
        return False


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / MANIFEST_FILE).read_bytes()).hexdigest()


def _path(repository: Path, model: str) -> Path:
    return state_folder(repository) / PLACED / f"{model}.json"
