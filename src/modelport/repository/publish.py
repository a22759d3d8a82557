"""Publish a version: staged outside the repository, synced to disk, renamed into place.

The first version of a model serves; a later one is a candidate: a version folder that `config.pbtxt` does not name is
inert, and promoting it is another step. The rename of the version's folder is the last thing that happens, so a kill at
any point leaves a repository without the version, or with all of it.
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
from modelport.repository import disk, journal, lock, placed, record, switch
from modelport.repository.journal import STAGING, Note
from modelport.repository.layout import check_path, config_path, state_folder, version_numbers
from modelport.repository.merge import merged, with_labels
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

    The folder above it is locked, which tells others that its owner lives.

    Raises:
        InvalidNameError: The model's name or the repository's path breaks its rule.
        RepositoryError: The disk refused, here or inside the block.
        RepositoryLockedError: Another writer is at work.
    """
    check_path(repository)
    workshop = state_folder(repository) / STAGING / f"{check_model_name(model)}-{uuid.uuid4().hex[:12]}"
    with disk.errors(repository), contextlib.ExitStack() as stack:
        with lock.writer(repository):
            stack.callback(shutil.rmtree, workshop, ignore_errors=True)
            (workshop / "version").mkdir(parents=True)
            owner = os.open(workshop, os.O_RDONLY)
            stack.callback(os.close, owner)
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield workshop / "version"


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
    report: lock.Report = lambda _: None,
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
        report: Told for whom this waits, where another operation on the model is under way.

    Raises:
        RepositoryError: The disk refused, or tensors or format are not those of the model's other versions.
        RepositoryLockedError: Another writer is at work.
        ManifestError: The model's configuration is damaged.
    """
    name = config.name
    with disk.errors(repository), journal.changing(repository, name, report=report):
        clean_staging(repository)
        disk.make_folder(repository)
        numbers = version_numbers(repository, name) if (repository / name).is_dir() else []
        version = _next(repository, name, numbers)
        place = _Place(repository=repository, name=name, version=version, staging=staging)
        present = _present(repository, name, numbers)
        texts = {file: "".join(f"{line}\n" for line in lines) for file, lines in (labels or {}).items()}
        if present is not None:
            merged(present, config, asked, where=config_path(repository, name))  # raises where it could not serve
            config, inherited = with_labels(config, present, repository / name)
            texts = {**inherited, **texts}
        disk.begin_writing(staging)  # while the checksums are computed
        _write(staging, {**texts, configs.CONFIG_FILE: configs.text(_serving(config, version))})
        finish(staging, version)
        disk.sync_tree(staging)
        final = _serving(config, *(() if candidate else (version,)))
        with lock.writer(repository):
            placed.note(repository, name, version, staging)
            if not place.model.is_dir():
                _new_model(place, {**texts, configs.CONFIG_FILE: configs.text(final)})
            elif present is None:
                _first_version(place, texts, final)
            else:
                _candidate(place, present, numbers)
    return Published(model=name, version=version, folder=place.folder, serving=present is None and not candidate)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a version comes from and where it goes."""

    repository: Path
    name: str
    version: int
    staging: Path

    @property
    def workshop(self) -> Path:
        return self.staging.parent

    @property
    def model(self) -> Path:
        return self.repository / self.name

    @property
    def folder(self) -> Path:
        return self.model / str(self.version)


def _owned(path: Path) -> bool:
    """Whether the process that made a staging folder still works on it. Files are made under the lock we hold."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):  # its owner removed it just now; a file
        return False
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
    version = max([*numbers, *named, *known.way_back, *known.retired, known.highest], default=0) + 1
    while os.path.lexists(path.with_name(str(version))):  # such as a file
        version += 1
    return parse_version(version)


def _present(repository: Path, name: str, numbers: Sequence[int]) -> configs.ModelConfig | None:
    """The model's own configuration; None where there is none that any version was published with."""
    path = config_path(repository, name)
    return configs.read(path) if numbers and path.exists() else None


def _serving(config: configs.ModelConfig, *versions: int) -> configs.ModelConfig:
    """A copy of the configuration that names these versions."""
    own = type(config).FromString(config.SerializeToString())
    configs.set_versions(own, versions)
    return own


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for filename, content in texts.items():
        (folder / filename).write_bytes(disk.encode(content))


def _new_model(place: _Place, texts: Mapping[str, str]) -> None:
    """The whole model folder, in one rename."""
    whole = place.workshop / "model"
    _write(whole, texts)
    place.staging.rename(whole / place.folder.name)
    for path in (*map(whole.joinpath, texts), whole):
        disk.sync(path)
    disk.move_folder(whole, place.model)


def _first_version(place: _Place, texts: Mapping[str, str], final: configs.ModelConfig) -> None:
    """The files of a model whose folder is there already, such as a committed configuration; then its first version.

    Without a version nothing can be served from the model's folder, whatever else is in it.
    """
    path = config_path(place.repository, place.name)
    before = configs.read_text(path) if path.exists() else ""
    known = record.parse(before, where=path)
    wanted = {**texts, configs.CONFIG_FILE: switch.render(final, known, before=before, where=path)}
    have = journal.texts(place.repository, place.name, wanted)
    changed = {name: text for name, text in wanted.items() if text != have[name]}
    if not changed:
        disk.move_folder(place.staging, place.folder)
        return
    files = place.workshop / "files"
    _write(files, changed)
    for name in changed:
        disk.sync(files / name)
    note = Note(
        operation="publish",
        model=place.name,
        version=place.version,
        before={name: have[name] for name in changed},
        done_with=place.folder.name,
    )
    with journal.noted(place.repository, note):
        for name in changed:
            disk.move(files / name, place.model / name)
        disk.move_folder(place.staging, place.folder)


def _candidate(place: _Place, present: configs.ModelConfig, numbers: Sequence[int]) -> None:
    """One rename; the model's configuration is not touched."""
    if not present.version_policy.HasField("specific"):  # such as 'latest': Triton would serve what comes
        known = record.read(config_path(place.repository, place.name))
        fixed = _serving(present, *configs.selected(present, numbers))
        switch.write(place.repository, place.name, fixed, known)
    disk.move_folder(place.staging, place.folder)
