"""Writing a backup while the repository is in use.

Each model is held while its files are read, so that its configuration and its versions belong together: publishing and
promoting it waits so long, requests do not. Databases are read by SQLite's own way of copying one that is written.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import tarfile
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from modelport._version import __version__
from modelport.errors import RepositoryError
from modelport.repository import disk, events, journal
from modelport.repository.backup.contents import ABOUT, FORMAT, REPOSITORY, STATE, Backup, belongs
from modelport.repository.layout import model_names, state_folder, version_numbers
from modelport.repository.lock import Report

_SQLITE = b"SQLite format 3\0"


def write(repository: Path, target: Path, *, report: Report = lambda _: None) -> Backup:
    """Write a backup. The file appears under its name when all is in it, and only its owner may read it: it holds keys.

    Args:
        repository: The model repository.
        target: The file to write; compressed where its name ends with `.gz` or `.xz`.
        report: Told which model is read.

    Raises:
        RepositoryError: There is no repository, the file is there already, or the disk refused.
        RepositoryLockedError: A model was being changed for minutes.
    """
    names = model_names(repository)
    if target.exists():
        raise RepositoryError(
            f"{target} is there already",
            why="a backup never replaces another one",
            fix="choose another name, or move that file away",
            path=str(target),
        )
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with disk.errors(target):
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                with tarfile.open(fileobj=file, mode=_mode(target), format=tarfile.PAX_FORMAT) as archive:
                    done = _Writer(repository, archive).all(target, names, report)
                file.flush()
                os.fsync(file.fileno())
            disk.move(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return done


def _mode(target: Path) -> Any:  # one of the words that tarfile knows
    return {".gz": "w:gz", ".tgz": "w:gz", ".xz": "w:xz"}.get(target.suffix, "w")


class _Writer:
    def __init__(self, repository: Path, archive: tarfile.TarFile) -> None:
        self._repository, self._archive = repository, archive
        self._files, self._bytes = 0, 0
        self._left_out: list[str] = []

    def all(self, target: Path, names: list[str], report: Report) -> Backup:
        created = events.now()
        about = {"format": FORMAT, "created": created, "modelport": __version__}
        self._content(ABOUT, json.dumps(about, indent=2).encode())
        models: dict[str, tuple[int, ...]] = {}
        for name in names:
            report(f"reading {name}")
            with journal.changing(self._repository, name, report=report):
                models[name] = tuple(version_numbers(self._repository, name))
                self._tree(self._repository / name, PurePosixPath(REPOSITORY, name))
        report("reading the state folder")
        self._tree(state_folder(self._repository), PurePosixPath(STATE))
        return Backup(
            path=str(target),
            created=created,
            modelport=__version__,
            models=models,
            files=self._files,
            size_bytes=self._bytes,
            left_out=tuple(self._left_out),
        )

    def _tree(self, folder: Path, name: PurePosixPath) -> None:
        """A folder and what is in it. What is removed meanwhile is left out; of a held model nothing is."""
        with contextlib.suppress(FileNotFoundError):
            self._archive.addfile(_plain(self._archive.gettarinfo(str(folder), str(name))))
            for path in sorted(folder.iterdir()):
                inside = name / path.name
                if name.parts[0] == STATE and not belongs(inside.relative_to(STATE)):
                    continue
                if path.is_symlink() or not (path.is_dir() or path.is_file()):
                    self._left_out.append(str(inside))
                elif path.is_dir():
                    self._tree(path, inside)
                else:
                    self._file(path, str(inside))

    def _file(self, path: Path, name: str) -> None:
        with contextlib.suppress(FileNotFoundError), _readable(path) as file:
            member = _plain(self._archive.gettarinfo(arcname=name, fileobj=file))
            self._archive.addfile(member, file)
            self._files += 1
            self._bytes += member.size

    def _content(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), 0o600
        self._archive.addfile(member, io.BytesIO(content))


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the owner, who need not be there where it is put back."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[io.BufferedReader]:
    """The file; of a database a copy that is whole."""
    with path.open("rb") as file:
        if file.read(len(_SQLITE)) != _SQLITE:
            file.seek(0)
            yield file
            return
    with tempfile.TemporaryDirectory(prefix="modelport-backup-") as folder:
        copy = Path(folder) / path.name
        with (
            contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(copy)) as whole,
        ):
            source.backup(whole)
        copy.chmod(path.stat().st_mode & 0o777)
        with copy.open("rb") as file:
            yield file
