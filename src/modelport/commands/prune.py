"""The verb `prune`: delete old versions, never one that is needed.

A version is renamed out of the repository before anything of it is deleted, so that it is whole or gone; before that,
the highest number that was ever given is written down, so that no number comes back. What a kill leaves outside the
repository is removed by the next publish or prune.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from modelport.errors import UsageError
from modelport.optimise import unfinished
from modelport.recipes import stored, weights
from modelport.repository import config as configs
from modelport.repository import disk, drops, events, journal, lock, registry, switch
from modelport.repository.layout import DEFAULT_REPOSITORY, version_numbers
from modelport.repository.manifest import MANIFEST_FILE
from modelport.repository.publish import clean_staging, staged
from modelport.repository.record import Record
from modelport.repository.registry import Standing
from modelport.server import connection


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What was deleted, or would be.

    Attributes:
        model: Model name.
        deleted: Version to its size in bytes.
        kept: Version to the reason why it stays.
        dry_run: Whether nothing was touched.
    """

    model: str
    deleted: Mapping[int, int]
    kept: Mapping[int, str]
    dry_run: bool


def prune(
    model: str,
    *,
    keep: int,
    dry_run: bool = False,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
) -> Pruned:
    """Delete the old versions of a model.

    These stay whatever `keep` says: the version that serves, every loaded one (by the configuration, and in the running
    server), every one with an alias or that the route names, the one that a rollback goes to, and an unchecked one,
    which may still be being copied in. Of all others, candidates among them, the `keep` highest numbers stay; broken
    ones do not count, and stay where they are newer than all that do.

    Args:
        model: Model name.
        keep: How many of the versions that nothing else keeps.
        dry_run: Tell what would be deleted, and touch nothing.
        repository: Folder of the model repository.

    Raises:
        UsageError: `keep` is negative.
        ModelNotFoundError: There is no such model.
        ManifestError: The model's configuration cannot be read, so that nobody knows what is needed.
        ServerTimeoutError: The running server does not say what it has loaded.
        RepositoryError: The disk refused.
        RepositoryLockedError: Another process is changing this model.
    """
    if keep < 0:
        raise UsageError(f"--keep {keep} is no number of versions", why="it is negative", fix="give 0 or more")
    root = Path(repository)
    version_numbers(root, model)
    with journal.changing(root, model):
        stands = registry.standing(root, model)
        config, known = switch.read(root, model)
        states = {row.version: row.state for row in registry.model_rows(root, model)}
        kept = _needed(root, stands, states)
        others = [version for version in stands.numbers if version not in kept]
        if keep:
            sound = [version for version in others if states[version] != registry.BROKEN][-keep:]
            kept.update((version, f"among the {keep} newest of the others") for version in sound)
            newest = max(kept, default=0)
            kept.update((version, "broken, and newer than all that stay") for version in others if version > newest)
        deleted = {version: _size(root / model / str(version)) for version in others if version not in kept}
        if not dry_run:
            known = _tidy(root, stands, config, known)
        if deleted and not dry_run:
            _delete(root, stands, config, known, set(deleted))
            text = f"deleted version {', '.join(map(str, deleted))}"
            events.append(root, events.event("pruned", text, model=model, versions=list(deleted)))
    return Pruned(model=model, deleted=deleted, kept=dict(sorted(kept.items())), dry_run=dry_run)


def _needed(repository: Path, stands: Standing, states: Mapping[int | None, str]) -> dict[int, str]:
    """The versions that must stay, each with the first reason."""
    running = connection.find(repository)
    ready = running.ready_versions(stands.model) if running is not None else ()
    found: dict[int, str] = {}
    for version in stands.numbers:
        folder = repository / stands.model / str(version)
        aliases = stands.record.aliases_of(version)
        reasons = {
            "serves": version == stands.serving,
            "loaded": version in stands.loaded,
            "loaded in the running server": version in ready,
            f"alias {', '.join(aliases)}": bool(aliases),
            "its route names it": version in stands.record.route.numbers,
            "a rollback goes to it": version == stands.way_back,
            "nobody has checked it: it may still be being copied in": states[version] == registry.UNCHECKED
            or (not (folder / MANIFEST_FILE).exists() and drops.refusal(repository, stands.model, version) is None),
        }
        why = ", ".join(reason for reason, holds in reasons.items() if holds)
        if why:
            found[version] = why
    return found


def _tidy(repository: Path, stands: Standing, config: configs.ModelConfig, known: Record) -> Record:
    """What a killed prune left: folders outside the repository, and words about versions that are gone."""
    clean_staging(repository)
    gone = {*known.tags, *known.way_back, *known.retired} - set(stands.numbers)
    tidied = known.without(gone)
    switch.write(repository, stands.model, config, tidied)
    return tidied


def _delete(repository: Path, stands: Standing, config: configs.ModelConfig, known: Record, versions: set[int]) -> None:
    model = stands.model
    known = replace(known, highest=max(known.highest, *stands.numbers))
    with staged(repository, model) as aside:
        with disk.errors(repository), lock.writer(repository):
            switch.write(repository, model, config, known)
            for version in sorted(versions):
                disk.move_folder(repository / model / str(version), aside / str(version))
            switch.write(repository, model, config, known.without(versions))
        for version in versions:
            drops.forget(repository, model, version)
            with disk.errors(repository):
                weights.forget(repository, model, version)
                stored.forget(repository, model, version)
                unfinished.forget(repository, model, version)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
