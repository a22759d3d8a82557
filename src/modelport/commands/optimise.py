"""The verb `optimise`: a smaller or faster candidate version, made from a published one, proved and measured."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelport.commands import evaluation_data, optimised
from modelport.errors import DataError, UsageError, VerificationError
from modelport.evaluate import gate_data
from modelport.evaluate.data import EvaluationData
from modelport.evaluate.intervals import Interval
from modelport.optimise import candidate
from modelport.optimise import data as samples
from modelport.optimise import origin as origins
from modelport.optimise.measure import Measured
from modelport.optimise.registry import kind as kind_of
from modelport.optimise.scoring import Score
from modelport.optimise.types import CALIBRATIONS, Options, Origin, Report, Task
from modelport.repository.layout import DEFAULT_REPOSITORY
from modelport.repository.publish import staged
from modelport.spec import check_model_name
from modelport.verify.evidence import Evidence

ROUNDS = 5
SECONDS = 0.5


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
        drop: The first drop, with the interval of the paired differences; None where there is none.
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
    drop: Interval | None
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
    anyway: bool = False,
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
        anyway: Whether to publish also what is neither smaller nor faster than the original.
        report: Called with one line at each step.

    Raises:
        UsageError: Options that cannot be right, or a version that is no ONNX model.
        ModelNotFoundError, VersionNotFoundError: There is no such version.
        ManifestError: Its files are not what was published.
        DataError: The evaluation data that was named cannot be used.
        ExampleInputError: The samples do not fit the model, or are too few.
        ConversionError: An operator that cannot be converted, or most weights are in such ones.
        VerificationError: The result loses more than allowed, mixes rows, or is neither smaller nor faster.
        RepositoryError: The repository cannot be written.
    """
    root, how = Path(repository), options or Options()
    check(how, count, rounds, seconds)
    if name is not None:
        check_model_name(name)
    module = kind_of(to)
    report("reading the version")
    origin = origins.read(root, reference)
    spec = origin.manifest.spec
    known = evaluation_of(evaluation, root, origin)
    found = samples.gather(origin, data, known, count=count, fewest=module.SAMPLES)
    judge = candidate.judge(origin, found, max_drop=how.max_drop, min_agreement=how.min_agreement)
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
        made = candidate.attempt(task, to, rounds=rounds, seconds=seconds)
        if not anyway:
            _require_gain(origin, to, made.measured)
        published = optimised.publish(root, staging, origin, made, name=name or spec.name, report=report)
    return Optimised(
        model=published.model,
        version=published.version,
        folder=published.folder,
        origin=origin.manifest.version,
        to=to,
        measured=made.measured,
        scores=made.scores,
        drop=made.drop,
        allowed_drop=judge.allowed,
        evidence=made.evidence,
        facts=made.facts,
        notes=(*made.notes, *([f"columns {known.columns}"] if known is not None and known.columns else [])),
    )


def _require_gain(origin: Origin, to: str, measured: Measured) -> None:
    """Refuse what is no better than the original in anything.

    Raises:
        VerificationError: With the figures.
    """
    if measured.gains:
        return
    size, latency, rate = measured.words()
    faster, more = measured.faster.range_words(), measured.more.range_words()
    raise VerificationError(
        f"{to} makes {origin.reference} neither smaller nor faster: it is {size}, {latency} {faster} for one row and "
        f"has {rate} throughput {more}",
        why=f"measured in {measured.rounds} rounds on this processor, {measured.before.size_bytes} bytes became "
        f"{measured.after.size_bytes}; what converts its numbers can cost a small model more than it saves",
        fix="keep the original; try another kind, or all with --budget; or publish it nevertheless with --anyway, such "
        "as for another processor or a GPU",
        model=origin.manifest.spec.name,
    )


def evaluation_of(wanted: str | None, root: Path, origin: Origin) -> EvaluationData | None:
    """What to score with; None where nothing was asked for, and nothing is kept.

    Raises:
        DataError: What was asked for, or what gates are judged with, cannot be used.
    """
    spec = origin.manifest.spec
    try:
        return evaluation_data.find(wanted, root, spec.name, spec, version=origin.manifest.version)
    except DataError:
        if wanted is not None or gate_data.exists(root, spec.name):
            raise
        return None  # nothing is kept: what is given, or the golden inputs, is enough


def check(options: Options, count: int, rounds: int, seconds: float, *more: str) -> None:
    """Refuse options that cannot be right, all of them together, with what else is wrong.

    Raises:
        UsageError: With what is wrong.
    """
    wrong = list(more)
    if options.calibration not in CALIBRATIONS:
        wrong.append(f"calibration {options.calibration!r} is not one of {', '.join(CALIBRATIONS)}")
    if options.max_drop is not None and not 0 <= options.max_drop < math.inf:
        wrong.append(f"max_drop {options.max_drop} is below 0, or no number")
    if options.min_agreement is not None and not 0 <= options.min_agreement <= 1:
        wrong.append(f"min_agreement {options.min_agreement} is not from 0 to 1")
    wrong += [f"{name} {value} is not above 0" for name, value in (("samples", count), ("rounds", rounds)) if value < 1]
    if not 0 < seconds <= 60:
        wrong.append(f"seconds {seconds} is not above 0 and at most 60")
    if wrong:
        raise UsageError("; ".join(wrong), why="an option has a value it cannot have", fix="choose values in range")
