"""Publish a version: staged outside the repository, synced to disk, renamed into place; `config.pbtxt` last.

A kill at any point leaves the old state or the new one. A version folder that `config.pbtxt` does not name is
inert, so the rename of that one file is what makes a version count.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelport.errors import RepositoryError
from modelport.repository import config as configs
from modelport.repository.layout import check_path, config_path, state_folder, version_numbers
from modelport.repository.lock import writer
from modelport.spec import ModelSpec, check_model_name, parse_version

STAGING = "staging"
STALE_S = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Published:
    """A version that is in the repository.

    Attributes:
        model: Model name.
        version: Version number.
        folder: The version folder.
    """

    model: str
    version: int
    folder: Path


@contextlib.contextmanager
def staged(repository: Path, model: str) -> Iterator[Path]:
    """An empty folder on the repository's file system; removed afterwards, whatever happened.

    Raises:
        InvalidNameError: The model's name or the repository's path breaks its rule.
        RepositoryError: The disk refused, here or inside the block.
    """
    check_path(repository)
    folder = state_folder(repository) / STAGING / f"{check_model_name(model)}-{uuid.uuid4().hex[:12]}"
    with _disk_errors(repository):
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def publish(
    repository: Path,
    staging: Path,
    config: configs.ModelConfig,
    *,
    finish: Callable[[Path, int], None],
    labels: Mapping[str, Sequence[str]] | None = None,
    asked: Collection[str] = (),
) -> Published:
    """Move a staged version folder into the repository as the next version and make it the one that serves.

    Args:
        repository: The model repository; made when it does not exist.
        staging: A folder that `staged` gave, holding the artefact and the evidence.
        config: The configuration as it would be for a new model. Where the model has one already, its owner's
            settings (instance groups, batching, parameters) stay unless `asked` or `config.parameters` name them.
        finish: Called with the staging folder and the version number; writes the manifest and the card.
        labels: Label file name to its lines.
        asked: Which of `max_batch_size` and `instance_group` the caller asked for; they replace the owner's.

    Raises:
        RepositoryError: The disk refused, or tensors or format are not those of the model's other versions.
        RepositoryLockedError: Another writer is at work.
    """
    name = config.name
    with _disk_errors(repository), writer(repository):
        _forget_killed(repository)
        repository.mkdir(parents=True, exist_ok=True)
        model_folder = repository / name
        numbers = version_numbers(repository, name) if model_folder.is_dir() else []
        version = parse_version(max([*numbers, *_named_before(repository, name, numbers)], default=0) + 1)
        final = _merged(repository, config, asked) if numbers else config
        configs.set_versions(final, [version])
        finish(staging, version)
        sync_tree(staging)
        files = {filename: "".join(f"{line}\n" for line in lines) for filename, lines in (labels or {}).items()}
        files[configs.CONFIG_FILE] = configs.text(final)  # last
        with staged(repository, name) as aside:
            for filename, content in files.items():
                (aside / filename).write_text(content, encoding="utf-8")
            sync_tree(aside)
            _move_in(staging, model_folder / str(version), aside, files)
    return Published(model=name, version=version, folder=model_folder / str(version))


def _forget_killed(repository: Path) -> None:
    """Remove what exports left in staging that were killed more than a day ago."""
    for folder in (state_folder(repository) / STAGING).iterdir():
        with contextlib.suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime > STALE_S:
                shutil.rmtree(folder, ignore_errors=True)


def _named_before(repository: Path, name: str, numbers: Sequence[int]) -> tuple[int, ...]:
    """Versions that the model's configuration names: one whose folder was removed must not be taken again.

    A model without any version folder starts at 1: its configuration came with the project, its versions are built.
    """
    path = config_path(repository, name)
    return configs.versions_of(configs.read(path)) if numbers and path.exists() else ()


def _move_in(staging: Path, target: Path, aside: Path, filenames: Iterable[str]) -> None:
    """Rename the version folder, then the model's files, into place; nothing stays when that fails half-way."""
    model_folder = target.parent
    made: list[Path] = []
    try:
        if not model_folder.is_dir():
            model_folder.mkdir()
            sync(model_folder.parent)
        staging.rename(target)
        made.append(target)
        sync(model_folder)
        for filename in filenames:
            path = model_folder / filename
            made += [] if path.exists() else [path]
            (aside / filename).replace(path)
    except BaseException:
        for path in made:
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                path.unlink()
        with contextlib.suppress(OSError):
            model_folder.rmdir()  # only where it is empty
        raise
    sync(model_folder)


def sync(path: Path) -> None:
    """fsync a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """fsync every file and folder below `folder`, and itself."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def _merged(repository: Path, config: configs.ModelConfig, asked: Collection[str]) -> configs.ModelConfig:
    """The configuration to write for a model that has versions: its own, with what belongs to the new version."""
    path = config_path(repository, config.name)
    if not path.exists():
        return config
    present = configs.read(path)
    _check_same(present, config, path)
    for have, new in zip(present.output, config.output, strict=True):
        have.label_filename = new.label_filename or have.label_filename
    for key in config.parameters:
        present.parameters[key].CopyFrom(config.parameters[key])
    if config.platform == configs.ENSEMBLE:
        present.ensemble_scheduling.CopyFrom(config.ensemble_scheduling)
    if "max_batch_size" in asked:
        present.max_batch_size = config.max_batch_size
    if "instance_group" in asked:
        for group in present.instance_group:
            group.count = config.instance_group[0].count
    return present


def _check_same(present: configs.ModelConfig, config: configs.ModelConfig, path: Path) -> None:
    def runs(one: configs.ModelConfig) -> tuple[str, str]:
        return (one.backend or one.platform, one.default_model_filename)

    if runs(present) != runs(config):
        raise RepositoryError(
            f"the new version of {config.name!r} is of another format than the versions before it",
            why=f"they are {' '.join(runs(present))}; the new one is {' '.join(runs(config))}; a model has one backend",
            fix="export in the same format, or under another model name",
            path=str(path),
        )
    if _interface(configs.spec_of(present)) == _interface(configs.spec_of(config)):
        return
    raise RepositoryError(
        f"the new version of {config.name!r} has other tensors than the versions before it",
        why=f"they have {_words(configs.spec_of(present))}; the new one has {_words(configs.spec_of(config))}",
        fix="keep names, types and sizes, or export under another model name",
        path=str(path),
    )


def _interface(spec: ModelSpec) -> tuple[object, ...]:
    return (spec.inputs, spec.outputs, spec.batched)


def _words(spec: ModelSpec) -> str:
    tensors = ", ".join(map(str, [*spec.inputs, *spec.outputs]))
    return f"{tensors} ({'with' if spec.batched else 'without'} a batch axis)"


@contextlib.contextmanager
def _disk_errors(repository: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise RepositoryError(
            f"{repository} cannot be written: {exc.strerror or exc}",
            why=f"the system said {exc!r}",
            fix="check free space, permissions, and that the repository and its state folder are on one file system",
            path=str(exc.filename or repository),
        ) from exc
