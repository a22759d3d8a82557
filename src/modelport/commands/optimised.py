"""How an optimised candidate becomes a version: with configuration, card and evaluation data of the original."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelport.commands.export import finish_version
from modelport.convert.format_onnx import BACKEND
from modelport.optimise.candidate import Candidate, load
from modelport.optimise.scoring import one_by_one
from modelport.optimise.types import FILENAME, Origin, Report
from modelport.recipes import stored
from modelport.repository import publish as publishing
from modelport.repository.card import CARD_FILE, Card
from modelport.repository.publish import Published

_SAID = ("source", "data", "licence")  # rows of the original's card that hold for the new version too


def publish(
    root: Path, staging: Path, origin: Origin, made: Candidate, *, name: str, report: Report = lambda _: None
) -> Published:
    """Make a staged candidate a version, and keep the original's evaluation data for it.

    Args:
        root: The model repository.
        staging: The staged folder, with artefact and evidence.
        origin: The version that it was made from.
        made: What is known of it.
        name: The model that it becomes a version of.
        report: Called with one line at each step.

    Raises:
        RepositoryError: The repository cannot be written.
    """
    report("publishing")
    config = type(origin.config).FromString(origin.config.SerializeToString())
    config.name = name
    (staging / FILENAME).rename(staging / origin.filename)
    known = origin.manifest.metrics
    metrics = {score.metric: score.after for score in made.scores if score.metric in known}
    published = publishing.publish(
        root,
        staging,
        config,
        finish=lambda folder, version: finish_version(
            folder,
            spec=replace(origin.manifest.spec, name=name),
            version=version,
            format="onnx",
            backend=BACKEND,
            framework=origin.manifest.framework,
            evidence=made.evidence,
            card=_card(origin, made.to, metrics, made.facts),
            facts=made.facts,
            note=origin.manifest.note,
        ),
        labels=origin.labels,
        candidate=True,
        report=report,
    )
    _keep_evaluation(root, origin, published, own=made.own)
    if made.progress is not None:
        shutil.rmtree(made.progress, ignore_errors=True)  # another process may be removing it as well
    return published


def _card(origin: Origin, to: str, metrics: Mapping[str, float], facts: Mapping[str, str]) -> Card:
    """The original's card, as far as it holds, and what was done."""
    path = origin.folder / CARD_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    said: dict[str, Any] = {}
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) == 2 and cells[0] in _SAID:
            said[cells[0]] = cells[1]
    if "optimised_training_samples" in facts:
        samples_seen = facts["optimised_training_samples"]
        said["source"] = f"{to} from {origin.reference}, trained by its recipe on {samples_seen} samples"
    title = lines[0].removeprefix("# ") if lines else origin.manifest.spec.name
    description = next((line for line in lines[1:] if line and not line.startswith(("|", "#"))), "")
    return Card(
        title=title.split(" (optimised")[0] + f" (optimised: {to})",
        description=description,
        metrics=metrics,
        notes=f"Made from {origin.reference} by `modelport optimise`; the manifest's facts say how.",
        **said,
    )


def _keep_evaluation(root: Path, origin: Origin, published: Published, *, own: bool) -> None:
    """The original's stored evaluation holds for the new version as well; a trained one has its own answers."""
    kept = stored.load(root, origin.manifest.spec.name, origin.manifest.version)
    if kept is None:
        return
    if own:
        runner = load(published.folder / origin.filename, origin)
        kept = replace(kept, answers=one_by_one(runner, dict(kept.inputs), batched=origin.manifest.spec.batched))
    stored.save(root, published.model, published.version, kept)
