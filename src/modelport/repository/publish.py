"""Publish a version: staged outside the repository, synced to disk, renamed into place; `config.pbtxt` last.

A kill at any point leaves the old state or the new one. A version folder that `config.pbtxt` does not name is
inert, so the rename of that one file is what makes a version count.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelport.errors import RepositoryError
from modelport.repository import config as configs
from modelport.repository.layout import config_path, state_folder, version_numbers
from modelport.repository.lock import writer
from modelport.spec import ModelSpec, check_model_name

STAGING = "staging"


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
    """An empty folder on the repository's file system; removed afterwards, whatever happened."""
    folder = state_folder(repository) / STAGING / f"{check_model_name(model)}-{uuid.uuid4().hex[:12]}"
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
) -> Published:
    """Move a staged version folder into the repository as the next version and make it the one that serves.

    Args:
        repository: The model repository; made when it does not exist.
        staging: A folder that `staged` gave, holding the artefact and the evidence.
        config: The configuration as it would be for a new model. Where the model has one already, its owner's
            settings (instance groups, batching, parameters) stay and only the versions change.
        finish: Called with the staging folder and the version number; writes the manifest and the card.
        labels: Label file name to its lines.

    Raises:
        RepositoryError: The disk refused, or the tensors are not those of the model's other versions.
        RepositoryLockedError: Another writer is at work.
    """
    name = config.name
    with writer(repository), _disk_errors(repository):
        repository.mkdir(parents=True, exist_ok=True)
        model_folder = repository / name
        numbers = version_numbers(repository, name) if model_folder.is_dir() else []
        version = max(numbers, default=0) + 1
        final = _merged(repository, config, has_versions=bool(numbers))
        configs.set_versions(final, [version])
        finish(staging, version)
        sync_tree(staging)
        if not model_folder.is_dir():
            model_folder.mkdir()
            sync(repository)
        target = model_folder / str(version)
        staging.rename(target)
        try:
            for filename, lines in (labels or {}).items():
                _replace(repository, model_folder / filename, "".join(f"{line}\n" for line in lines))
            sync(model_folder)
            _replace(repository, config_path(repository, name), configs.text(final))
        except OSError:
            shutil.rmtree(target, ignore_errors=True)
            raise
    return Published(model=name, version=version, folder=target)


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


def _merged(repository: Path, config: configs.ModelConfig, *, has_versions: bool) -> configs.ModelConfig:
    """The configuration to write: the model's own where it has versions, else the new one."""
    path = config_path(repository, config.name)
    if not path.exists() or not has_versions:
        return config
    present = configs.read(path)
    if _interface(configs.spec_of(present)) == _interface(configs.spec_of(config)):
        return present
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


def _replace(repository: Path, path: Path, content: str) -> None:
    """Write a file so that a reader sees the old content or the new, also after a power cut."""
    temporary = state_folder(repository) / STAGING / f"{path.parent.name}-{path.name}-{uuid.uuid4().hex[:12]}"
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.write_text(content, encoding="utf-8")
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


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
