"""One candidate, made aside: optimised, scored beside the original, proved and measured; nothing is published here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from modelport.convert.format_onnx import OnnxRunner
from modelport.convert.types import Arrays
from modelport.errors import UsageError
from modelport.evaluate.intervals import Interval
from modelport.evaluate.metrics import UNBOUNDED
from modelport.evaluate.scores import FEW_ROWS
from modelport.optimise import measure as measuring
from modelport.optimise.measure import Measured
from modelport.optimise.prove import examine
from modelport.optimise.registry import kind as kind_of
from modelport.optimise.scoring import Judge, Score, one_by_one
from modelport.optimise.types import FILENAME, Data, Made, Origin, Task
from modelport.verify import evidence as evidences
from modelport.verify.evidence import Evidence


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What was made; its artefact and evidence are in the task's folder.

    Attributes:
        to: The kind.
        scores: What it loses, the figure that decides first.
        drop: The first drop, with the interval of the paired differences; None where there is none.
        measured: Size, latency and rate of both, paired.
        evidence: What was proved.
        facts: What its manifest is to remember of the making.
        notes: For people.
        own: Whether it was trained, so that its answers are its own.
        progress: A folder with what training needs to go on; it goes when this is kept.
    """

    to: str
    scores: tuple[Score, ...]
    drop: Interval | None
    measured: Measured
    evidence: Evidence
    facts: Mapping[str, str]
    notes: tuple[str, ...]
    own: bool
    progress: Path | None = None


def judge(origin: Origin, found: Data, *, max_drop: float | None = None, min_agreement: float | None = None) -> Judge:
    """Whoever scores models against the original, which answers all samples now.

    Raises:
        UsageError: What decides can never drop so far.
    """
    decides = found.metrics[0] if found.truth is not None and found.metrics else "the agreement with the original"
    if max_drop is not None and max_drop > 1 and decides not in UNBOUNDED:
        raise UsageError(
            f"max_drop {max_drop:g} would allow everything",
            why=f"{decides} decides, which is from 0 to 1",
            fix=f"{max_drop:g} % is written {max_drop / 100:g}",
        )
    batched = origin.manifest.spec.batched
    original: Arrays = one_by_one(load(origin.artefact, origin), found.scoring, batched=batched)
    return Judge(
        inputs=found.scoring,
        original=original,
        truth=found.truth,
        metrics=found.metrics,
        max_drop=max_drop,
        min_agreement=min_agreement,
        batched=batched,
    )


def load(artefact: Path, origin: Origin) -> OnnxRunner:
    """An ONNX file with the tensors of the original."""
    return OnnxRunner(artefact, [tensor.name for tensor in origin.manifest.spec.outputs])


def attempt(task: Task, to: str, *, rounds: int, seconds: float) -> Candidate:
    """Make a candidate in `task.folder`.

    Args:
        task: What to work with.
        to: The kind.
        rounds: In how many turns original and candidate are measured.
        seconds: How long each is measured in a round, for latency and rate each.

    Raises:
        UsageError: Options that cannot be right, or something that the kind needs is not there.
        ConversionError: The model cannot be optimised so.
        VerificationError: It loses more than allowed, or mixes rows.
    """
    origin = task.origin
    made = kind_of(to).make(task)
    task.report("comparing with the original, proving the batch axis")
    runner = load(task.folder / FILENAME, origin)
    answers = task.judge.answers(runner)
    scores = task.judge.scored(answers)
    task.judge.require(
        scores, model=origin.manifest.spec.name, why=made.reason, fix="use another kind, or allow more with --max-drop"
    )
    evidence, golden = made.proved or examine(origin, made, runner, task.judge.inputs, task.judge.original)
    evidences.write(task.folder, evidence, golden)
    measured = _measured(task, rounds, seconds)
    return Candidate(
        to=to,
        scores=scores,
        drop=task.judge.interval(answers),
        measured=measured,
        evidence=evidence,
        facts=_facts(task, made, to, scores, measured),
        notes=(*made.notes, *_few(task.judge)),
        own=made.proved is not None,
        progress=made.progress,
    )


def _few(judge: Judge) -> tuple[str, ...]:
    """A warning where the drop says little."""
    if judge.rows >= FEW_ROWS:
        return ()
    return (
        f"only {judge.rows} samples were scored: this shows that it works, not what it loses; --evaluation takes more",
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
