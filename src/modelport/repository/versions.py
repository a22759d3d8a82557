"""Which versions of a model are loaded, and which one serves, by its `config.pbtxt`."""

from __future__ import annotations

from pathlib import Path

from modelport.errors import ManifestError
from modelport.repository import config as configs
from modelport.repository.layout import config_path, version_numbers


def loaded_versions(repository: Path, model: str) -> tuple[int, ...]:
    """The versions that Triton is to load, ascending; none without a readable `config.pbtxt`.

    Raises:
        ModelNotFoundError: The repository has no such model.
    """
    numbers = version_numbers(repository, model)
    try:
        return configs.selected(configs.read(config_path(repository, model)), numbers)
    except ManifestError:
        return ()


def serving_version(repository: Path, model: str) -> int | None:
    """The version that answers requests which name none: the highest of those that are loaded.

    Raises:
        ModelNotFoundError: The repository has no such model.
    """
    return max(loaded_versions(repository, model), default=None)
