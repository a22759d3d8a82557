"""The verb `optimise`: a smaller or faster candidate version, made from a published one, proved and measured."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from modelport.commands import evaluation_data
from modelport.commands.export import finish_version
from modelport.convert.format_onnx import BACKEND, OnnxRunner
from modelport.convert.types import Arrays
from modelport.errors import DataError, UsageError
from modelport.evaluate.data import EvaluationData
from modelport.optimise import data as samples
from modelport.optimise import measure as measuring
from modelport.optimise import origin as origins
from modelport.optimise.measure import Measured
from modelport.optimise.prove import examine
from modelport.optimise.registry import kind as kind_of
from modelport.optimise.scoring import Judge, Score, one_by_one
from modelport.optimise.types import CALIBRATIONS, FILENAME, Data, Made, Options, Origin, Report, Task
from modelport.recipes import stored
from modelport.repository.card import CARD_FILE, Card
from modelport.repository.layout import DEFAULT_REPOSITORY
from modelport.repository.publish import Published, publish, staged
from modelport.spec import check_model_name
from modelport.verify import evidence as evidences
from modelport.verify.evidence import Evidence

ROUNDS = 5
SECONDS = 0.5
_SAID = ("source", "data", "licence")  # rows of the original's card that hold for the new version too


@dataclass(frozen=True, kw_only=True)
class Optimised:
    """What was made.

    Attributes:
        model: Model name.
        version: The new version, a candidate.
        folder: Its folder.
        origin: The version that it was made from.
        to: The kind.
        measured: Size, latency and rate of both, paired.
        scores: What it loses, the figure that decides first.
        allowed_drop: How much lower the first score might have been.
        evidence: What was proved.
        facts: What its manifest remembers of the making.
        notes: For people.
    """

    model: str
    version: int
    folder: Path
    origin: int
    to: str
    measured: Measured
    scores: tuple[Score, ...]
    allowed_drop: float
    evidence: Evidence
    facts: Mapping[str, str]
    notes: tuple[str, ...]


def optimise(
    reference: str,
    *,
    to: str,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    name: str | None = None,
    data: Path | None = None,
    evaluation: str | None = None,
    count: int = samples.CALIBRATION_ROWS,
    options: Options | None = None,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    report: Report = lambda _: None,
) -> Optimised:
    """Make a candidate version from a published ONNX one. Where anything does not hold, nothing is published.

    Args:
        reference: `NAME` or `NAME/VERSION`; without a version the one that serves.
        to: `fp16`, `int8`, `int8-dynamic`, `pruned` or `distilled`.
        repository: Folder of the model repository.
        name: The model that it becomes a version of; None for the same model.
        data: `.npz` with real samples to calibrate with, an array for each input; None for half of the evaluation data.
        evaluation: What to score with, as `modelport evaluate --data` takes it; None for that of the model's gates or
            of its recipe, where there is any.
        count: The most samples to calibrate with.
        options: How; the defaults when left out.
        rounds: In how many turns original and optimised model are measured.
        seconds: How long each is measured in a round, for latency and rate each.
        report: Called with one line at each step.

    Raises:
        UsageError: Options that cannot be right, or a version that is no ONNX model.
        ModelNotFoundError, VersionNotFoundError: There is no such version.
        ManifestError: Its files are not what was published.
        DataError: The evaluation data that was named cannot be used.
        ExampleInputError: The samples do not fit the model, or are too few.
        ConversionError: An operator that cannot be converted, or most weights are in such ones.
        VerificationError: The result loses more than allowed, or mixes rows.
        RepositoryError: The repository cannot be written.
    """
    root, how = Path(repository), options or Options()
    _check(how, count, rounds, seconds)
    if name is not None:
        check_model_name(name)
    module = kind_of(to)
    report("reading the version")
    origin = origins.read(root, reference)
    spec = origin.manifest.spec
    known = _evaluation(evaluation, root, origin)
    found = samples.gather(origin, data, known, count=count, fewest=module.SAMPLES)
    judge = _judge(origin, found, how)
    with staged(root, spec.name) as staging, tempfile.TemporaryDirectory(prefix="modelport-optimise-") as scratch:
        task = Task(
            origin=origin,
            data=found,
            options=how,
            judge=judge,
            folder=staging,
            scratch=Path(scratch),
            repository=root,
            report=report,
        )
        made = module.make(task)
        report("comparing with the original, proving the batch axis")
        runner = OnnxRunner(staging / FILENAME, [tensor.name for tensor in spec.outputs])
        scores = judge.scores(runner)
        judge.require(scores, model=spec.name, why=made.reason, fix="use another kind, or allow more with --max-drop")
        evidence, golden = made.proved or examine(origin, made, runner, judge.inputs, judge.original)
        evidences.write(staging, evidence, golden)
        measured = _measured(task, rounds, seconds)
        facts = _facts(task, made, to, scores, measured)
        report("publishing")
        published = _publish(root, staging, task, to, evidence, facts, scores, name or spec.name)
    _keep_evaluation(root, origin, published, runner if made.proved is not None else None)
    if made.progress is not None:
        shutil.rmtree(made.progress, ignore_errors=True)  # another process may be removing it as well
    return Optimised(
        model=published.model,
        version=published.version,
        folder=published.folder,
        origin=origin.manifest.version,
        to=to,
        measured=measured,
        scores=scores,
        allowed_drop=judge.allowed,
        evidence=evidence,
        facts=facts,
        notes=made.notes,
    )


def _measured(task: Task, rounds: int, seconds: float) -> Measured:
    origin = task.origin
    return measuring.measure(
        origin.artefact,
        task.folder / FILENAME,
        task.judge.inputs,
        batched=origin.manifest.spec.batched,
        largest=origin.manifest.spec.max_batch_size,
        instances=max(1, sum(group.count for group in origin.config.instance_group)),
        rounds=rounds,
        seconds=seconds,
        report=task.report,
    )


def _evaluation(wanted: str | None, root: Path, origin: Origin) -> EvaluationData | None:
    try:
        return evaluation_data.find(wanted, root, origin.manifest.spec.name, origin.manifest.spec)
    except DataError:
        if wanted is not None:
            raise
        return None  # nothing is kept: what is given, or the golden inputs, is enough


def _check(options: Options, count: int, rounds: int, seconds: float) -> None:
    wrong = []
    if options.calibration not in CALIBRATIONS:
        wrong.append(f"calibration {options.calibration!r} is not one of {', '.join(CALIBRATIONS)}")
    if options.max_drop is not None and not 0 <= options.max_drop <= 1:
        wrong.append(f"max_drop {options.max_drop} is not from 0 to 1")
    if options.min_agreement is not None and not 0 <= options.min_agreement <= 1:
        wrong.append(f"min_agreement {options.min_agreement} is not from 0 to 1")
    wrong += [f"{name} {value} is not above 0" for name, value in (("samples", count), ("rounds", rounds)) if value < 1]
    if not 0 < seconds <= 60:
        wrong.append(f"seconds {seconds} is not above 0 and at most 60")
    if wrong:
        raise UsageError("; ".join(wrong), why="an option has a value it cannot have", fix="choose values in range")


def _judge(origin: Origin, found: Data, options: Options) -> Judge:
    batched = origin.manifest.spec.batched
    runner = OnnxRunner(origin.artefact, [tensor.name for tensor in origin.manifest.spec.outputs])
    original: Arrays = one_by_one(runner, found.scoring, batched=batched)
    return Judge(
        inputs=found.scoring,
        original=original,
        truth=found.truth,
        metrics=found.metrics,
        max_drop=options.max_drop,
        min_agreement=options.min_agreement,
        batched=batched,
    )


def _facts(task: Task, made: Made, to: str, scores: tuple[Score, ...], measured: Measured) -> dict[str, str]:
    """What the manifest remembers: from which version, how, with what, and what came of it."""
    used = {name: value for name, value in made.facts.items() if value}
    if task.data.calibration is not task.data.scoring and "calibration_method" in used:
        used["calibration_data"] = f"{len(next(iter(task.data.calibration.values())))} samples of {task.data.origin}"
        used["calibration_sha256"] = task.data.digest
    figures = {name: value for name, value in asdict(measured).items() if name != "raw"}
    return {
        **{name: value for name, value in task.origin.manifest.facts.items() if not name.startswith("optimised")},
        "optimised_from": task.origin.reference,
        "optimised_from_sha256": task.origin.digest,
        "optimised_to": to,
        **{f"optimised_{name}": value for name, value in used.items()},
        "optimised_scores": json.dumps([asdict(score) for score in scores]),
        "optimised_measured": json.dumps(figures),
    }


def _publish(
    root: Path,
    staging: Path,
    task: Task,
    to: str,
    evidence: Evidence,
    facts: Mapping[str, str],
    scores: tuple[Score, ...],
    name: str,
) -> Published:
    origin = task.origin
    config = type(origin.config).FromString(origin.config.SerializeToString())
    config.default_model_filename = FILENAME
    config.name = name
    known = origin.manifest.metrics
    metrics = {score.metric: score.after for score in scores if score.metric in known}
    return publish(
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
            evidence=evidence,
            card=_card(origin, to, metrics, facts),
            facts=facts,
            note=origin.manifest.note,
        ),
        labels=origin.labels,
        candidate=True,
        report=task.report,
    )


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


def _keep_evaluation(root: Path, origin: Origin, published: Published, own: OnnxRunner | None) -> None:
    """The original's stored evaluation holds for the new version as well; a trained one has its own answers."""
    kept = stored.load(root, origin.manifest.spec.name, origin.manifest.version)
    if kept is None:
        return
    if own is not None:
        kept = replace(kept, answers=one_by_one(own, dict(kept.inputs), batched=origin.manifest.spec.batched))
    stored.save(root, published.model, published.version, kept)
