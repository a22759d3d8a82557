"""What is being changed, so that a kill at any point is repaired by the next command.

An operation on a model notes its way back in `<state>/journal/<model>.json` before it changes anything, and removes the
note at its end. Whoever takes the model's lock next and finds a note knows that its writer is dead, and carries out
what the note says: files that were to be moved into place are moved, a configuration that was not proved is put back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelport.errors import RepositoryLockedError
from modelport.repository import disk, lock
from modelport.repository.config import CONFIG_FILE
from modelport.repository.layout import state_folder

JOURNAL = "journal"
STAGING = "staging"


@dataclass(frozen=True, kw_only=True)
class Note:
    """An operation under way.

    Attributes:
        operation: Such as `publish` or `promote`.
        model: The model that it changes.
        version: The version that it is about.
        moves: Files to bring into place, as (from, to), in this order. What was moved already is not there any more.
        before: Files of the model's folder that are put back, by name; a text of None says that there was none.
    """

    operation: str
    model: str
    version: int
    moves: tuple[tuple[str, str], ...] = ()
    before: Mapping[str, str | None] = field(default_factory=dict)


@contextlib.contextmanager
def noted(repository: Path, note: Note) -> Iterator[None]:
    """Keep the note for as long as the block runs; also gone when the block fails, which cleans up after itself."""
    path = _path(repository, note.model)
    disk.replace_text(path, json.dumps(dataclasses.asdict(note), indent=2), through=_folder(repository))
    try:
        yield
    except BaseException:
        put_back(repository, note)  # where the disk refuses even this, the note stays for the next command
        path.unlink(missing_ok=True)
        raise
    path.unlink(missing_ok=True)
    disk.sync(path.parent)


@contextlib.contextmanager
def changing(repository: Path, model: str, *, timeout_s: float = lock.MODEL_WAIT_S) -> Iterator[Note | None]:
    """Hold a model's lock, after repairing what a killed operation left; gives that operation's note, if there was one.

    Raises:
        RepositoryLockedError: Another process held the lock for `timeout_s`.
        RepositoryError: The disk refused.
    """
    with lock.model(repository, model, timeout_s=timeout_s), disk.errors(repository):
        yield _repair(repository, model)


def repair(repository: Path) -> list[Note]:
    """Repair what killed operations left, in all models that nobody is changing now; the notes of those operations.

    Raises:
        RepositoryError: The disk refused.
    """
    found: list[Note] = []
    for path in sorted(_folder(repository).glob("*.json")):
        with contextlib.suppress(RepositoryLockedError), changing(repository, path.stem, timeout_s=0) as note:
            found += [note] if note else []
    return found


def _repair(repository: Path, model: str) -> Note | None:
    path = _path(repository, model)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    note = Note(**{**content, "moves": tuple((a, b) for a, b in content["moves"])})
    with lock.writer(repository):
        for source, target in note.moves:
            if Path(source).exists():
                disk.move(Path(source), Path(target))
        put_back(repository, note)
        for source, _ in note.moves:
            shutil.rmtree(Path(source).parent, ignore_errors=True)
    path.unlink(missing_ok=True)
    disk.sync(path.parent)
    return note


def put_back(repository: Path, note: Note) -> None:
    """Put the files back that an operation changed, `config.pbtxt` last.

    Raises:
        OSError: The disk refused.
    """
    for name, text in sorted(note.before.items(), key=lambda item: item[0] == CONFIG_FILE):
        path = repository / note.model / name
        if text is None:
            path.unlink(missing_ok=True)
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            disk.replace_text(path, text, through=state_folder(repository) / STAGING)


def _folder(repository: Path) -> Path:
    return state_folder(repository) / JOURNAL


def _path(repository: Path, model: str) -> Path:
    return _folder(repository) / f"{model}.json"
