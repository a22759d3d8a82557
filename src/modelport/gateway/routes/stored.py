"""The routes of a repository's models, as the gateway reads them. They are kept in the models' records."""

from __future__ import annotations

import contextlib
from pathlib import Path

from modelport.errors import ManifestError
from modelport.repository import record
from modelport.repository.layout import config_path, model_names
from modelport.repository.route import Route, Share

__all__ = ["Route", "Share", "read", "read_one"]


def read(repository: Path) -> dict[str, Route]:
    """Model to route, for the models that have one; a model whose record is damaged has none.

    Args:
        repository: The model repository.

    Raises:
        RepositoryError: There is no such repository.
    """
    found = {}
    for model in model_names(repository):
        with contextlib.suppress(ManifestError):
            found[model] = read_one(repository, model)
    return {model: route for model, route in found.items() if route != Route()}


def read_one(repository: Path, model: str) -> Route:
    """The route of a model; an empty one where none is set.

    Raises:
        ManifestError: The model's record is damaged.
    """
    return record.read(config_path(repository, model)).route
