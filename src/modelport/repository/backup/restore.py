"""Putting a backup back: beside its place first, compared with the manifests, then renamed into it."""

from __future__ import annotations

import contextlib
import json
import shutil
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from modelport.errors import RepositoryError
from modelport.repository import disk, manifest
from modelport.repository.backup.contents import ABOUT, FORMAT, REPOSITORY, STATE, Backup
from modelport.repository.layout import model_names, state_folder, version_numbers
from modelport.repository.lock import Report


def restore(source: Path, repository: Path, *, report: Report = lambda _: None) -> Backup:
    """Put a backup back where no repository is. Nothing is there unless every published version is as it was published.

    Args:
        source: A file that `write` has made.
        repository: Where the repository is to be; nothing, or an empty folder, as its state folder.
        report: Told what is being done.

    Raises:
        RepositoryError: Something is there already, the file is no backup, or the disk refused.
        ManifestError: A version is not what was published.
    """
    state = state_folder(repository)
    for path in (repository, state):
        _check_free(path)
    aside = repository.resolve().parent / f".restore-{uuid.uuid4().hex[:8]}"
    try:
        with disk.errors(repository), _opened(source) as archive:
            report(f"reading {source}")
            about, files, size_bytes = _extract(archive, aside, source)
            models = {
                name: tuple(version_numbers(aside / REPOSITORY, name)) for name in model_names(aside / REPOSITORY)
            }
            for name, versions in models.items():
                report(f"comparing {name} with its manifests")
                for version in versions:
                    _compare(aside / REPOSITORY / name / str(version))
            report("writing")
            disk.sync_tree(aside)
            for made, path in ((aside / STATE, state), (aside / REPOSITORY, repository)):  # it is there with the last
                with contextlib.suppress(FileNotFoundError):
                    path.rmdir()
                made.rename(path)
                disk.sync(path.resolve().parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Backup(
        path=str(source),
        created=str(about.get("created", "")),
        modelport=str(about.get("modelport", "")),
        models=models,
        files=files,
        size_bytes=size_bytes,
    )


def _check_free(path: Path) -> None:
    if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        raise RepositoryError(
            f"{path} is there already",
            why="a backup is put back as a whole, never over something else",
            fix="name another repository with --repository, or move that one and its state folder away",
            path=str(path),
        )


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[tarfile.TarFile]:
    if not source.is_file():
        raise _no_backup(source, "there is no such file")
    try:
        with tarfile.open(source, "r|*") as archive:
            yield archive
    except (tarfile.TarError, EOFError, ValueError) as exc:
        raise _no_backup(source, f"it cannot be read: {exc}") from exc


def _extract(archive: tarfile.TarFile, folder: Path, source: Path) -> tuple[dict[str, object], int, int]:
    """Only ordinary files and folders, only below the two folders that a backup has."""
    members = iter(archive)
    first = next(members, None)
    content = archive.extractfile(first) if first is not None and first.name == ABOUT else None
    about = json.loads(content.read(1 << 20)) if content else None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise _no_backup(source, f"it does not begin with {ABOUT} of format {FORMAT}")
    files = size_bytes = 0
    disk.make_folder(folder.parent)
    folder.mkdir(mode=0o700)
    for below in (REPOSITORY, STATE):
        (folder / below).mkdir()
    for member in members:
        place = PurePosixPath(member.name)
        if place.parts[:1] not in ((REPOSITORY,), (STATE,)) or ".." in place.parts:
            raise _no_backup(source, f"it holds {member.name!r}, which belongs nowhere")
        target = folder / place
        if member.isdir():
            target.mkdir(exist_ok=True, parents=True)
        elif member.isreg():
            target.parent.mkdir(exist_ok=True, parents=True)
            with target.open("xb") as file:
                shutil.copyfileobj(archive.extractfile(member), file)  # type: ignore[arg-type]
            files, size_bytes = files + 1, size_bytes + member.size
        else:
            raise _no_backup(source, f"{member.name!r} is neither a file nor a folder")
        target.chmod(member.mode & 0o755 | (0o700 if member.isdir() else 0o600))
    return about, files, size_bytes


def _compare(version: Path) -> None:
    if (version / manifest.MANIFEST_FILE).is_file():  # without one it was copied in, and nobody has checked it yet
        manifest.check_files(version, manifest.read(version))


def _no_backup(source: Path, why: str) -> RepositoryError:
    return RepositoryError(
        f"{source} is no backup that can be put back",
        why=why,
        fix="give a file that 'modelport backup' wrote, as a whole",
        path=str(source),
    )
