"""Publish a version: staged outside the repository, synced to disk, renamed into place.

The first version of a model serves; a later one is a candidate: a version folder that `config.pbtxt` does not name is
inert, and promoting it is another step. A kill at any point leaves the old state or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelport.repository import config as configs
from modelport.repository import disk, journal, lock, record
from modelport.repository.journal import STAGING, Note
from modelport.repository.layout import check_path, config_path, state_folder, version_numbers
from modelport.repository.merge import merged
from modelport.spec import check_model_name, parse_version


@dataclass(frozen=True, kw_only=True)
class Published:
    """A version that is in the repository.

    Attributes:
        model: Model name.
        version: Version number.
        folder: The version folder.
        serving: Whether `config.pbtxt` names it: it is the model's first. A candidate otherwise.
    """

    model: str
    version: int
    folder: Path
    serving: bool


@contextlib.contextmanager
def staged(repository: Path, model: str) -> Iterator[Path]:
    """An empty folder on the repository's file system; removed afterwards, whatever happened.

    Its lock tells others that its owner lives.

    Raises:
        InvalidNameError: The model's name or the repository's path breaks its rule.
        RepositoryError: The disk refused, here or inside the block.
        RepositoryLockedError: Another writer is at work.
    """
    check_path(repository)
    folder = state_folder(repository) / STAGING / f"{check_model_name(model)}-{uuid.uuid4().hex[:12]}"
    with disk.errors(repository):
        with lock.writer(repository):
            folder.mkdir(parents=True)
            owner = os.open(folder, os.O_RDONLY)
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield folder
        finally:
            os.close(owner)
            shutil.rmtree(folder, ignore_errors=True)


def clean_staging(repository: Path) -> list[str]:
    """Remove what killed exports left in staging; the names of the folders removed.

    Raises:
        RepositoryLockedError: Another writer is at work.
        RepositoryError: The disk refused.
    """
    folder = state_folder(repository) / STAGING
    removed = []
    with disk.errors(repository), lock.writer(repository):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if not _owned(path):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
                removed.append(path.name)
    return removed


def publish(
    repository: Path,
    staging: Path,
    config: configs.ModelConfig,
    *,
    finish: Callable[[Path, int], None],
    labels: Mapping[str, Sequence[str]] | None = None,
    asked: Collection[str] = (),
    candidate: bool = False,
) -> Published:
    """Move a staged version folder into the repository as the next version.

    Args:
        repository: The model repository; made when it does not exist.
        staging: A folder that `staged` gave, holding the artefact and the evidence.
        config: The configuration as it would be for a new model. It goes into the version folder, and into the model's
            own configuration when the version is promoted; there its owner's settings (instance groups, batching,
            parameters) stay unless `asked` or `config.parameters` name them.
        finish: Called with the staging folder and the version number; writes the manifest and the card.
        labels: Label file name to its lines.
        asked: Which of `max_batch_size` and `instance_group` the caller asked for; they replace the owner's.
        candidate: Let also the first version of a model be a candidate.

    Raises:
        RepositoryError: The disk refused, or tensors or format are not those of the model's other versions.
        RepositoryLockedError: Another writer is at work.
    """
    name = config.name
    with journal.changing(repository, name), disk.errors(repository), lock.writer(repository):
        clean_staging(repository)
        repository.mkdir(parents=True, exist_ok=True)
        model_folder = repository / name
        numbers = version_numbers(repository, name) if model_folder.is_dir() else []
        version = _next(repository, name, numbers)
        present = _present(repository, name, numbers)
        final = config if present is None else merged(present, config, asked, where=config_path(repository, name))
        serving = not candidate and (present is None or not configs.selected(present, numbers))
        texts = {file: "".join(f"{line}\n" for line in lines) for file, lines in (labels or {}).items()}
        _write_own(staging, config, version, texts)
        finish(staging, version)
        disk.sync_tree(staging)
        configs.set_versions(final, [version] if serving else configs.selected(present, numbers) if present else [])
        place = _Place(repository=repository, name=name, version=version)
        if not model_folder.is_dir():
            _new_model(place, staging, {**texts, configs.CONFIG_FILE: configs.text(final)})
        elif present is None or serving:
            texts[configs.CONFIG_FILE] = record.lines(record.read(config_path(repository, name))) + configs.text(final)
            _first_version(place, staging, texts)
        else:
            _candidate(place, staging, present, numbers)
    return Published(model=name, version=version, folder=model_folder / str(version), serving=serving)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a version goes."""

    repository: Path
    name: str
    version: int

    @property
    def model(self) -> Path:
        return self.repository / self.name

    @property
    def folder(self) -> Path:
        return self.model / str(self.version)


def _owned(path: Path) -> bool:
    """Whether the process that made a staging folder still works on it. Files are made under the lock we hold."""
    if not path.is_dir():
        return False
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _next(repository: Path, name: str, numbers: Sequence[int]) -> int:
    """The number after every one that was given, also to a version that was deleted.

    A model without any version folder starts at 1: its configuration came with the project, its versions are built.
    """
    path = config_path(repository, name)
    known = record.read(path)
    named = configs.versions_of(configs.read(path)) if numbers and path.exists() else ()
    return parse_version(max([*numbers, *named, *known.way_back, *known.retired, known.highest], default=0) + 1)


def _present(repository: Path, name: str, numbers: Sequence[int]) -> configs.ModelConfig | None:
    """The model's own configuration; None where there is none that any version was published with."""
    path = config_path(repository, name)
    return configs.read(path) if numbers and path.exists() else None


def _write_own(staging: Path, config: configs.ModelConfig, version: int, labels: Mapping[str, str]) -> None:
    """The configuration and the labels that the version was made with, into its folder."""
    own = type(config).FromString(config.SerializeToString())
    configs.set_versions(own, [version])
    for filename, content in {**labels, configs.CONFIG_FILE: configs.text(own)}.items():
        (staging / filename).write_text(content, encoding="utf-8")


def _new_model(place: _Place, staging: Path, texts: Mapping[str, str]) -> None:
    """The whole model folder, in one rename."""
    with staged(place.repository, place.name) as aside:
        whole = aside / place.name
        whole.mkdir()
        for filename, content in texts.items():
            (whole / filename).write_text(content, encoding="utf-8")
        staging.rename(whole / str(place.version))
        disk.sync_tree(aside)
        disk.move(whole, place.model)


def _first_version(place: _Place, staging: Path, texts: Mapping[str, str]) -> None:
    """The first version of a model whose folder is there already, then its files; `config.pbtxt` last."""
    with staged(place.repository, place.name) as aside:
        for filename, content in texts.items():
            (aside / filename).write_text(content, encoding="utf-8")
        disk.sync_tree(aside)
        moves = [(staging, place.folder), *((aside / name, place.model / name) for name in texts)]
        note = Note(
            operation="publish",
            model=place.name,
            version=place.version,
            moves=tuple((str(a), str(b)) for a, b in moves),
        )
        kept = {path: path.read_bytes() for _, path in moves[1:] if path.is_file()}
        with journal.noted(place.repository, note):
            try:
                for source, target in moves:
                    disk.move(source, target)
            except BaseException:
                _undo(place, [target for _, target in moves[1:]], kept)
                raise


def _undo(place: _Place, targets: Sequence[Path], kept: Mapping[Path, bytes]) -> None:
    """As it was before; what cannot be undone stays for the error to tell."""
    with contextlib.suppress(OSError):
        for path in targets:
            if path in kept:
                path.write_bytes(kept[path])
            elif path.is_file():
                path.unlink()
    shutil.rmtree(place.folder, ignore_errors=True)


def _candidate(place: _Place, staging: Path, present: configs.ModelConfig, numbers: Sequence[int]) -> None:
    """One rename; the model's configuration is not touched."""
    if not present.version_policy.HasField("specific"):  # such as 'latest': Triton would serve what comes
        configs.set_versions(present, configs.selected(present, numbers))
        path = config_path(place.repository, place.name)
        text = record.lines(record.read(path)) + configs.text(present)
        disk.replace_text(path, text, through=state_folder(place.repository) / STAGING)
    disk.move(staging, place.folder)
