"""The route of a model. It is kept in the model's record."""

from __future__ import annotations

from pathlib import Path

from modelport.repository import record
from modelport.repository.layout import config_path
from modelport.repository.route import Route, Share

__all__ = ["Route", "Share", "read_one"]


def read_one(repository: Path, model: str) -> Route:
    """The route of a model; an empty one where none is set.

    Raises:
        ManifestError: The model's record is damaged.
    """
    return record.read(config_path(repository, model)).route
