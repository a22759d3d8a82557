"""The verbs `list` and `show`: what a repository holds, read from its files without a server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelport.errors import ManifestError
from modelport.repository import manifest as manifests
from modelport.repository.card import CARD_FILE
from modelport.repository.layout import (
    DEFAULT_REPOSITORY,
    config_path,
    model_names,
    parse_reference,
    version_folder,
    version_numbers,
)
from modelport.repository.manifest import Manifest
from modelport.repository.versions import loaded_versions, serving_version


@dataclass(frozen=True, kw_only=True)
class VersionRow:
    """One version in the list.

    Attributes:
        model: Model name.
        version: Version number; None for a model without any version.
        state: `serving` when `config.pbtxt` names it, `published` when not, `broken` without a readable manifest,
            `empty` for a model without a version.
        format: `onnx`, `torchscript`, `python`, `ensemble`; empty when unknown.
        framework: What it was trained with.
        size_bytes: Of all files.
        created: UTC time, ISO 8601.
        metrics: Of the source model.
        problem: Why it is broken or empty.
    """

    model: str
    version: int | None
    state: str
    format: str = ""
    framework: str = ""
    size_bytes: int = 0
    created: str = ""
    metrics: Mapping[str, float]
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One version in full.

    Attributes:
        row: As in the list.
        manifest: Its manifest.
        card: Its model card, Markdown.
        config: The model's `config.pbtxt` as it stands.
        versions: All versions of the model.
    """

    row: VersionRow
    manifest: Manifest
    card: str
    config: str
    versions: tuple[int, ...]


def list_models(repository: str | os.PathLike[str] = DEFAULT_REPOSITORY) -> list[VersionRow]:
    """Every version of every model, by name and number.

    Raises:
        RepositoryError: There is no such folder.
    """
    root = Path(repository)
    found: list[VersionRow] = []
    for name in model_names(root):
        numbers = version_numbers(root, name)
        if not numbers:
            problem = "it has no version; export the model"
            found.append(VersionRow(model=name, version=None, state="empty", metrics={}, problem=problem))
        found += [_row(root, name, number) for number in numbers]
    return found


def show(reference: str, *, repository: str | os.PathLike[str] = DEFAULT_REPOSITORY) -> Shown:
    """One version in full; the serving one when the reference names none.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such version.
        ManifestError: Its manifest cannot be read.
    """
    root = Path(repository)
    name, version = parse_reference(reference)
    numbers = version_numbers(root, name)
    if version is None:
        version = serving_version(root, name)
    folder = version_folder(root, name, version)
    card = folder / CARD_FILE
    path = config_path(root, name)
    return Shown(
        row=_row(root, name, int(folder.name)),
        manifest=manifests.read(folder),
        card=card.read_text(encoding="utf-8", errors="replace") if card.exists() else "",
        config=path.read_text(encoding="utf-8", errors="replace") if path.exists() else "",
        versions=tuple(numbers),
    )


def _row(repository: Path, name: str, version: int) -> VersionRow:
    try:
        manifest = manifests.read(repository / name / str(version))
    except ManifestError as exc:
        return VersionRow(model=name, version=version, state="broken", metrics={}, problem=exc.why)
    return VersionRow(
        model=name,
        version=version,
        state="serving" if version in loaded_versions(repository, name) else "published",
        format=manifest.format,
        framework=manifest.framework,
        size_bytes=manifest.size_bytes,
        created=manifest.created,
        metrics=manifest.metrics,
    )
