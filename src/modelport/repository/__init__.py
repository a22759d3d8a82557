"""The model repository: Triton's layout, complete configurations, manifests, atomic publishing."""

from __future__ import annotations

from modelport.repository.layout import (
    DEFAULT_REPOSITORY,
    model_names,
    parse_reference,
    state_folder,
    version_folder,
    version_numbers,
)

__all__ = [
    "DEFAULT_REPOSITORY",
    "model_names",
    "parse_reference",
    "state_folder",
    "version_folder",
    "version_numbers",
]
