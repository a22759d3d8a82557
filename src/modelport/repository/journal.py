"""What is being changed, so that a kill at any point is repaired by the next command.

An operation on a model notes its way back in `<state>/journal/<model>.json` before it changes anything, and removes the
note at its end. Whoever takes the model's lock next and finds a note knows that its writer is dead, and puts the files
back that the note holds: what was not brought to its end was not begun.

A running server may have loaded what was taken back. `<state>/journal/<model>.load` says so, until somebody who can
talk to the server has it load the model again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelport.errors import InvalidNameError, ManifestError, RepositoryLockedError
from modelport.repository import disk, lock
from modelport.repository.layout import CONFIG_FILE, state_folder

JOURNAL = "journal"
STAGING = "staging"
_LOAD = ".load"


@dataclass(frozen=True, kw_only=True)
class Note:
    """An operation under way.

    Attributes:
        operation: Such as `publish` or `promote`.
        model: The model that it changes.
        version: The version that it is about.
        before: Files of the model's folder that are put back, by name; a text of None says that there was none.
        done_with: What is in the model's folder once the operation is done, such as the folder of the new version;
            nothing is put back then. Empty: only removing the note makes it done.
        loads: Whether the operation lets a running server load the changed files.
    """

    operation: str
    model: str
    version: int
    before: Mapping[str, str | None] = field(default_factory=dict)
    done_with: str = ""
    loads: bool = False


def texts(repository: Path, model: str, names: Iterable[str]) -> dict[str, str | None]:
    """Files of a model's folder as a note keeps them; None for one that is not there.

    Raises:
        OSError: One cannot be read.
    """
    paths = {name: repository / model / name for name in names}
    return {name: disk.decode(path.read_bytes()) if path.is_file() else None for name, path in paths.items()}


@contextlib.contextmanager
def noted(repository: Path, note: Note) -> Iterator[None]:
    """Keep the note for as long as the block runs. When it fails, its files are put back.

    Where the disk refuses even that, the note stays for the next command.

    Raises:
        OSError: The disk refused.
    """
    path = _path(repository, note.model)
    try:
        with lock.writer(repository):  # what lies in staging without it is removed
            disk.make_folder(path.parent)
            content = json.dumps(dataclasses.asdict(note), indent=2)
            disk.replace_text(path, content, through=state_folder(repository) / STAGING)
        yield
        _remove(path)
    except BaseException:
        with contextlib.suppress(OSError, RepositoryLockedError):
            _settle(repository, note)
        raise


@contextlib.contextmanager
def changing(
    repository: Path, model: str, *, timeout_s: float = lock.MODEL_WAIT_S, report: lock.Report = lambda _: None
) -> Iterator[Note | None]:
    """Hold a model's lock, after repairing what a killed operation left; gives that operation's note, if there was one.

    Args:
        repository: The model repository.
        model: Model name.
        timeout_s: Seconds to wait for the lock.
        report: Told for whom this waits, where the lock is not free soon.

    Raises:
        RepositoryLockedError: Another process held the lock for `timeout_s`.
        RepositoryError: The disk refused.
        ManifestError: The note is damaged.
    """
    with disk.errors(repository), lock.model(repository, model, timeout_s=timeout_s, report=report):
        note = _read(_path(repository, model))
        if note is not None:
            _settle(repository, note)
        yield note


def repair(repository: Path) -> list[Note]:
    """Repair what killed operations left, in all models that nobody is changing now; the notes of those operations.

    Raises:
        RepositoryError: The disk refused.
        ManifestError: A note is damaged.
    """
    found: list[Note] = []
    for model in pending(repository):
        with (
            contextlib.suppress(RepositoryLockedError, InvalidNameError),
            changing(repository, model, timeout_s=0) as note,
        ):
            found += [note] if note else []
    return found


def pending(repository: Path) -> list[str]:
    """The models for which there is a note, sorted: an operation is under way, or was killed."""
    return sorted(path.stem for path in (state_folder(repository) / JOURNAL).glob("*.json"))


def to_load(repository: Path) -> list[str]:
    """The models of which a running server may have loaded what was taken back since, sorted."""
    return sorted(path.stem for path in (state_folder(repository) / JOURNAL).glob(f"*{_LOAD}"))


def note_to_load(repository: Path, model: str) -> None:
    """Remember that a running server is to load the model again; its lock is held by the caller.

    Raises:
        OSError: The disk refused.
    """
    path = _path(repository, model).with_suffix(_LOAD)
    disk.make_folder(path.parent)
    path.touch()


def loaded(repository: Path, model: str) -> None:
    """What the server has loaded is what the files say; the model's lock is held by the caller.

    Raises:
        OSError: The disk refused.
    """
    _path(repository, model).with_suffix(_LOAD).unlink(missing_ok=True)


def put_back(repository: Path, note: Note) -> None:
    """Put the files back that an operation changed, `config.pbtxt` last.

    Raises:
        OSError: The disk refused.
    """
    for name, text in sorted(note.before.items(), key=lambda item: item[0] == CONFIG_FILE):
        path = repository / note.model / name
        if text is None:
            _discard(path)
        elif not path.is_file() or path.read_bytes() != disk.encode(text):
            disk.replace_text(path, text, through=state_folder(repository) / STAGING)


def _settle(repository: Path, note: Note) -> None:
    """Bring a note to its end: everything as it was before, unless the operation was done."""
    with lock.writer(repository):
        if not (note.done_with and (repository / note.model / note.done_with).exists()):
            put_back(repository, note)
        if note.loads:
            note_to_load(repository, note.model)
        _remove(_path(repository, note.model))


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    disk.sync(path.parent)


def _discard(path: Path) -> None:
    if path.is_file():  # a folder of that name is not ours
        path.unlink()
        disk.sync(path.parent)


def _read(path: Path) -> Note | None:
    try:
        return Note(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as exc:
        raise ManifestError(
            f"the note {path.name} of an operation that did not end cannot be read",
            why=f"{type(exc).__name__}: {exc}",
            fix=f"look at the model's {CONFIG_FILE}, then remove {path}",
            path=str(path),
        ) from exc


def _path(repository: Path, model: str) -> Path:
    return state_folder(repository) / JOURNAL / f"{model}.json"
