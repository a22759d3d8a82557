"""What is known of a version's worth: evaluations, and what the gates said of it.

It is in `<state>/evaluation/results/<model>/<version>.json` beside the repository, for versions do not change, and is
bound to the version by its manifest's sha256.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelport.repository import disk, lock, placed
from modelport.repository.journal import STAGING
from modelport.repository.layout import state_folder
from modelport.repository.manifest import MANIFEST_FILE

FOLDER = "evaluation"
EVALUATIONS, JUDGEMENTS = "evaluations", "judgements"
KEPT = 20  # of each kind


def add(repository: Path, model: str, version: int, kind: str, entry: Mapping[str, Any]) -> None:
    """Keep an evaluation or a judgement with a version; an evaluation takes the place of one with the same data.

    Args:
        repository: The model repository.
        model: Model name.
        version: Its version.
        kind: `EVALUATIONS` or `JUDGEMENTS`.
        entry: What JSON takes; dataclasses in it are written as objects.

    Raises:
        RepositoryError: The disk refused.
        RepositoryLockedError: Another writer is at work.
        OSError: The version has no manifest.
    """
    digest = _digest(repository, model, version)
    with disk.errors(repository), lock.writer(repository) as state:
        found = read(repository, model, version)
        plain = json.loads(json.dumps(entry, default=dataclasses.asdict))
        same = {key: plain.get(key) for key in ("data_sha256", "output")}
        others = [
            one
            for one in found[kind]
            if kind == JUDGEMENTS or {key: one.get(key) for key in ("data_sha256", "output")} != same
        ]
        content = {"manifest_sha256": digest, **found, kind: [*others, plain][-KEPT:]}
        path = _results(repository, model, version)
        disk.make_folder(path.parent)
        disk.replace_text(path, json.dumps(content, indent=1) + "\n", through=state / STAGING)


def read(repository: Path, model: str, version: int) -> dict[str, list[dict[str, Any]]]:
    """The evaluations and judgements of a version, the latest last; none where its manifest is another one now."""
    empty: dict[str, list[dict[str, Any]]] = {EVALUATIONS: [], JUDGEMENTS: []}
    try:
        content = json.loads(_results(repository, model, version).read_text(encoding="utf-8"))
        if content["manifest_sha256"] != _digest(repository, model, version):
            return empty
        return {kind: list(content[kind]) for kind in empty}
    except (OSError, ValueError, KeyError, TypeError):
        return empty


def _results(repository: Path, model: str, version: int) -> Path:
    return state_folder(repository) / FOLDER / "results" / model / f"{version}.json"


def _digest(repository: Path, model: str, version: int) -> str:
    return placed.digest_of((repository / model / str(version) / MANIFEST_FILE).read_bytes())
