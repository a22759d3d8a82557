"""Trained weights that are kept beside the repository: an artefact cannot be trained any further.

One file for each version in `<repository>.state/weights/`. It holds what the recipe trained; whoever loads it compares
the network's answers with the version's golden ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelport.repository.layout import state_folder


def keep(repository: Path, model: str, version: int, network: Any) -> None:
    """Keep the weights of a version that was built from a torch module."""
    from modelport.convert.source_files import save_weights

    path = path_of(repository, model, version)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(network, path)


def forget(repository: Path, model: str, version: int) -> None:
    """Remove the weights of a version that is gone."""
    path_of(repository, model, version).unlink(missing_ok=True)


def path_of(repository: Path, model: str, version: int) -> Path:
    """Where the weights of a version are, if they were kept."""
    return state_folder(repository) / "weights" / f"{model}-{version}.safetensors"
