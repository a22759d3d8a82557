"""Where things are in a model repository, and which models and versions it holds.

model_repository/<model>/config.pbtxt, <labels>.txt
model_repository/<model>/<version>/<artefact>, manifest.json, evidence.json, golden.npz, card.md
model_repository.state/          staging, lock, logs: beside the repository, never inside it
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from modelport.errors import InvalidNameError, ManifestError, ModelNotFoundError, RepositoryError, VersionNotFoundError
from modelport.spec import check_model_name, parse_version

CONFIG_FILE = "config.pbtxt"
DEFAULT_REPOSITORY = Path("model_repository")
SAFE_PATH = re.compile(r"[A-Za-z0-9/._-]+")


def state_folder(repository: Path) -> Path:
    """The folder for everything that is not the repository itself; on the same file system."""
    real = repository.resolve()
    return real.parent / f"{real.name}.state"


def check_path(repository: Path) -> None:
    """Check that Triton can be given the repository's path; it reaches a shell.

    Raises:
        InvalidNameError: It has other letters than A-Z a-z 0-9 / . _ -
    """
    path = str(repository.resolve())
    if not SAFE_PATH.fullmatch(path):
        raise InvalidNameError(
            f"the repository path {path!r} cannot be used",
            why="Triton hands it to a shell, so it may hold only A-Z a-z 0-9 / . _ -",
            fix="choose a folder whose path has no blanks and special letters",
            path=path,
            name=path,
        )


def model_names(repository: Path) -> list[str]:
    """The models, sorted: folders with a model's name.

    Raises:
        RepositoryError: There is no such folder, or it cannot be read.
    """
    if not repository.is_dir():
        raise RepositoryError(
            f"there is no model repository at {repository}",
            why="the folder does not exist",
            fix="export a model first, or name the repository with --repository",
            path=str(repository),
        )
    return sorted(name for name in _folders(repository) if _is_model(name))


def version_numbers(repository: Path, model: str) -> list[int]:
    """The versions of a model for which a folder exists, ascending.

    Raises:
        ModelNotFoundError: The repository has no such model.
        RepositoryError: Its folder cannot be read.
    """
    folder = repository / check_model_name(model)
    if not folder.is_dir():
        names = model_names(repository)
        raise ModelNotFoundError(
            f"there is no model {model!r} in {repository}",
            why=f"it holds {', '.join(names) if names else 'no model'}",
            fix="check the name; 'modelport list' shows what there is",
            model=model,
        )
    return sorted(int(name) for name in _folders(folder) if _is_version(name))


def version_folder(repository: Path, model: str, version: int | None = None) -> Path:
    """The folder of a version; the highest one when none is named.

    Raises:
        ModelNotFoundError: The repository has no such model.
        VersionNotFoundError: The model has no such version, or none at all.
    """
    numbers = version_numbers(repository, model)
    if not numbers or (version is not None and version not in numbers):
        raise VersionNotFoundError(
            f"model {model!r} has no version{'' if version is None else f' {version}'}",
            why=f"its versions are {', '.join(map(str, numbers))}" if numbers else "nothing was published yet",
            fix="name one of these" if numbers else "export the model",
            model=model,
            version=version or 0,
        )
    return repository / model / str(version if version is not None else numbers[-1])


def config_path(repository: Path, model: str) -> Path:
    """The model's `config.pbtxt`."""
    return repository / model / CONFIG_FILE


def read_config_text(path: Path) -> str:
    """The text of a `config.pbtxt`.

    Raises:
        ManifestError: It is missing, or no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise unreadable_config(path, exc) from exc


def unreadable_config(path: Path, exc: Exception) -> ManifestError:
    """The error for a `config.pbtxt` that is no configuration."""
    return ManifestError(
        f"{path.parent.name}/{path.name} cannot be read",
        why=f"{type(exc).__name__}: {exc}",
        fix="correct the file, or export the model again",
        path=str(path),
    )


def parse_reference(text: str) -> tuple[str, int | None]:
    """`NAME` or `NAME/VERSION`.

    Raises:
        InvalidNameError: The name or the version breaks its rule.
    """
    name, slash, version = text.partition("/")
    return check_model_name(name), parse_version(version) if slash else None


def _folders(folder: Path) -> list[str]:
    """The names of the folders in a folder, and of links to folders."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if _is_folder(entry)]
    except OSError as exc:
        raise RepositoryError(
            f"{folder} cannot be read",
            why=f"the system said {exc!r}",
            fix="check that it is there, and its permissions",
            path=str(folder),
        ) from exc


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _is_model(name: str) -> bool:
    try:
        return bool(check_model_name(name))
    except InvalidNameError:
        return False


def _is_version(name: str) -> bool:
    try:
        return bool(parse_version(name))
    except InvalidNameError:
        return False
