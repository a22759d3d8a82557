"""Which versions modelport itself brought into place, by publishing or adopting; all others were copied in.

One file for each model, `<state>/placed/<model>.json`: version number to the sha256 of its `manifest.json`. Where there
is none, the model came with the whole repository, such as from another machine, and what has a manifest is taken as it
is; the first note makes that last. A model that is copied in while a service runs begins with an empty file: nothing of
it is taken so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from modelport.errors import ManifestError
from modelport.repository import disk, lock
from modelport.repository import manifest as manifests
from modelport.repository.journal import STAGING
from modelport.repository.layout import state_folder, version_numbers
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
    noted = known(repository, model)
    before = _as_they_are(repository, model) if noted is None else noted
    _write(repository, model, {**before, version: _digest(folder)})


def nothing_yet(repository: Path, model: str) -> None:
    """Remember of a model of which nothing is known that none of its versions was brought into place here.

    Raises:
        OSError: The disk refused.
        RepositoryLockedError: Another writer is at work.
    """
    with lock.writer(repository):
        if known(repository, model) is None:
            _write(repository, model, {})


def known(repository: Path, model: str) -> Mapping[int, str] | None:
    """The versions of a model that were brought into place here; None where nothing is known of the model."""
    try:
        content = json.loads(path(repository, model).read_text(encoding="utf-8"))
        return {int(version): str(digest) for version, digest in content.items()}
    except (OSError, ValueError, AttributeError):
        return None


def ours(repository: Path, model: str, version: int) -> bool:
    """Whether the version's manifest is the one that was brought into place here."""
    digest = (known(repository, model) or {}).get(version)
    try:
        return digest is not None and digest == _digest(repository / model / str(version))
    except OSError:
        return False


def path(repository: Path, model: str) -> Path:
    """The file in which it is remembered of a model."""
    return state_folder(repository) / PLACED / f"{model}.json"


def digest_of(content: bytes) -> str:
    """What is noted of a `manifest.json` with this content."""
    return hashlib.sha256(content).hexdigest()


def is_own(folder: Path) -> bool:
    """Whether a version folder has a manifest, and it is one of this model's name and number."""
    try:
        manifest = manifests.read(folder)
    except ManifestError:
        return False
    return (manifest.spec.name, str(manifest.version)) == (folder.parent.name, folder.name)


def _as_they_are(repository: Path, model: str) -> Mapping[int, str]:
    """The versions of a model that came with the whole repository."""
    if not (repository / model).is_dir():
        return {}
    folders = {version: repository / model / str(version) for version in version_numbers(repository, model)}
    return {version: _digest(folder) for version, folder in folders.items() if is_own(folder)}


def _write(repository: Path, model: str, found: Mapping[int, str]) -> None:
    file = path(repository, model)
    with lock.writer(repository) as state:
        disk.make_folder(file.parent)
        text = json.dumps({str(v): digest for v, digest in found.items()}) + "\n"
        disk.replace_text(file, text, through=state / STAGING)  # what a kill leaves there is removed


def _digest(folder: Path) -> str:
    return digest_of((folder / MANIFEST_FILE).read_bytes())
