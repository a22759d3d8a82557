"""Version folders that were copied in and refused, or not promoted: why, for as long as the folder stays as it was.

One file for each in `<state>/drops/<model>/<version>.json`; the repository itself is not touched.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from modelport.errors import RepositoryError
from modelport.repository import disk
from modelport.repository.layout import state_folder

DROPS = "drops"


def fingerprint(folder: Path) -> str:
    """What tells that a folder changed: a hash over name, size and time of every entry below it; no content is read.

    Raises:
        RepositoryError: The folder cannot be read.
    """
    try:
        return _hash(folder)
    except OSError as exc:
        raise RepositoryError(
            f"{folder} cannot be read",
            why=f"the system said {exc!r}",
            fix="check that the folder is there, and its permissions",
            path=str(exc.filename or folder),
        ) from exc


@dataclass(frozen=True, kw_only=True)
class Noted:
    """What is known of a version folder that was copied in.

    Attributes:
        reason: One line.
        refused: Whether it was refused; else it is a candidate that could not be promoted.
    """

    reason: str
    refused: bool


def refuse(repository: Path, model: str, version: int, reason: str) -> None:
    """Remember why a version folder was refused.

    Args:
        repository: The model repository.
        model: Model name.
        version: Version number; its folder is there.
        reason: One line.

    Raises:
        RepositoryError: The disk refused.
    """
    _note(repository, model, version, Noted(reason=reason, refused=True))


def not_promoted(repository: Path, model: str, version: int, reason: str) -> None:
    """Remember why a version that was found good, and was to be promoted, stays a candidate; else as `refuse`."""
    _note(repository, model, version, Noted(reason=reason, refused=False))


def known(repository: Path, model: str, version: int) -> Noted | None:
    """What is known of a version folder; None where nothing is, or it changed since, or is gone."""
    try:
        content = json.loads(_path(repository, model, version).read_text(encoding="utf-8"))
        found = Noted(reason=str(content["reason"]), refused=bool(content.get("refused", True)))
        return found if content["fingerprint"] == _hash(repository / model / str(version)) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def refusal(repository: Path, model: str, version: int) -> str | None:
    """Why the version folder was refused; None where it was not, or changed since, or is gone."""
    found = known(repository, model, version)
    return found.reason if found is not None and found.refused else None


def everything(repository: Path) -> Iterator[tuple[str, int, Noted]]:
    """Model, version and what is known, of every version folder of which something is."""
    for path in sorted((state_folder(repository) / DROPS).glob("*/*.json")):
        if path.stem.isdecimal() and (found := known(repository, path.parent.name, int(path.stem))):
            yield path.parent.name, int(path.stem), found


def forget(repository: Path, model: str, version: int) -> None:
    """Forget what is known of a version folder, if anything is.

    Raises:
        RepositoryError: The disk refused.
    """
    with disk.errors(repository):
        _path(repository, model, version).unlink(missing_ok=True)


def _note(repository: Path, model: str, version: int, noted: Noted) -> None:
    content = {**asdict(noted), "fingerprint": fingerprint(repository / model / str(version))}
    path = _path(repository, model, version)
    with disk.errors(repository):
        path.parent.mkdir(parents=True, exist_ok=True)
        disk.replace_text(path, json.dumps(content, indent=2) + "\n", through=path.parent)


def _path(repository: Path, model: str, version: int) -> Path:
    return state_folder(repository) / DROPS / model / f"{version}.json"


def _hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for name, status in sorted(_entries(folder)):
        digest.update(f"{name}\0{status}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _entries(folder: Path) -> Iterator[tuple[str, str]]:
    """Relative name, and size and time, of everything below; links are not followed."""
    pending = [(folder, "")]
    while pending:
        place, inside = pending.pop()
        try:
            found = os.scandir(place)
        except PermissionError:
            yield inside, "may not be read"
            continue
        with found as entries:
            for entry in entries:
                name = f"{inside}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    yield f"{name}/", ""
                    pending.append((Path(entry.path), f"{name}/"))
                else:
                    status = entry.stat(follow_symlinks=False)
                    yield name, f"{status.st_size} {status.st_mtime_ns}"
