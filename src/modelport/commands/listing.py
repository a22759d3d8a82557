"""The verbs `list` and `show`: what a repository holds, read from its files without a server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelport.errors import ManifestError, RepositoryError
from modelport.evaluate import stored
from modelport.repository import journal, registry
from modelport.repository import manifest as manifests
from modelport.repository.card import CARD_FILE
from modelport.repository.layout import DEFAULT_REPOSITORY, config_path, parse_reference, version_folder
from modelport.repository.manifest import Manifest
from modelport.repository.registry import VersionRow
from modelport.repository.search import search


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One version in full.

    Attributes:
        row: As in the list.
        manifest: Its manifest.
        card: Its model card, Markdown.
        config: The model's `config.pbtxt` as it stands.
        versions: All versions of the model.
        way_back: The version that a rollback of the model goes to; None where there is none.
        gates: What a version of the model must be worth before it may serve, in words.
        evaluations: What the served version was worth, the latest last; see `commands.evaluate.Evaluated`.
        judgements: What the gates said of it, and why it serves where they were overridden.
    """

    row: VersionRow
    manifest: Manifest
    card: str
    config: str
    versions: tuple[int, ...]
    way_back: int | None
    gates: tuple[str, ...] = ()
    evaluations: tuple[Mapping[str, Any], ...] = ()
    judgements: tuple[Mapping[str, Any], ...] = ()


def list_models(
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    *,
    name: str | None = None,
    tag: str | None = None,
    alias: str | None = None,
    state: str | None = None,
    framework: str | None = None,
    metric: str | None = None,
) -> list[VersionRow]:
    """The versions of a repository, by model name and number; what a killed operation left is repaired first.

    Args:
        repository: Folder of the model repository.
        name: Part of the model's name, or a pattern of it with `*`, `?`, `[...]`.
        tag: Only versions with this tag.
        alias: Only versions with this alias.
        state: Only versions in this state: one of `modelport.repository.registry.STATES`, or `loaded`.
        framework: Only versions that were trained with it, such as `keras`.
        metric: Only versions for which this comparison holds, such as `accuracy>=0.95`.

    Raises:
        RepositoryError: There is no such folder.
        UsageError: There is no such state, or the metric is no comparison.
    """
    wanted = search(name=name, tag=tag, alias=alias, state=state, framework=framework, metric=metric)
    root = Path(repository)
    _repair(root)
    return wanted.select(registry.rows(root, wanted=wanted.wants_model))


def show(reference: str, *, repository: str | os.PathLike[str] = DEFAULT_REPOSITORY) -> Shown:
    """One version in full; the serving one when the reference names none.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such version.
        ManifestError: Its manifest cannot be read.
    """
    root = Path(repository)
    name, version = parse_reference(reference)
    _repair(root)
    stands = registry.standing(root, name)
    folder = version_folder(root, name, stands.serving if version is None else version)
    row = registry.row(root, name, int(folder.name))
    card = folder / CARD_FILE
    path = config_path(root, name)
    known = stored.read(root, name, int(folder.name))
    return Shown(
        row=row,
        manifest=_manifest(folder, row),
        card=card.read_text(encoding="utf-8", errors="replace") if card.exists() else "",
        config=path.read_text(encoding="utf-8", errors="replace") if path.exists() else "",
        versions=stands.numbers,
        way_back=stands.way_back,
        gates=tuple(gate.words() for gate in stands.record.gates),
        evaluations=tuple(known[stored.EVALUATIONS]),
        judgements=tuple(known[stored.JUDGEMENTS]),
    )


def _manifest(folder: Path, row: VersionRow) -> Manifest:
    try:
        return manifests.read(folder)
    except ManifestError as exc:
        exc.why = row.problem or exc.why  # such as why it was refused when it was copied in
        raise


def _repair(repository: Path) -> None:
    """Repair what killed operations left; who may only read sees it as it is."""
    with contextlib.suppress(RepositoryError):
        journal.repair(repository)
