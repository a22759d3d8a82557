"""The verb `optimise --budget`: tries what makes a model smaller or faster, publishes the best within the budget."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

from modelport._version import __version__
from modelport.commands import optimised
from modelport.commands.optimise import ROUNDS, SECONDS, check, evaluation_of
from modelport.errors import ExampleInputError, UsageError, VerificationError
from modelport.evaluate.data import EvaluationData
from modelport.optimise import candidate, unfinished
from modelport.optimise import data as samples
from modelport.optimise import origin as origins
from modelport.optimise.ladder import budget as budgets
from modelport.optimise.ladder.budget import Budget
from modelport.optimise.ladder.climb import KEPT, OBJECTIVES, climb, explained
from modelport.optimise.ladder.rungs import Ladder, Rung, ladder, on_gpu
from modelport.optimise.ladder.tried import NOT_TRIED, Tried, Workshop, opened
from modelport.optimise.registry import kind as kind_of
from modelport.optimise.types import Data, Options, Origin, Report, Task
from modelport.recipes.recipe import recipe_digest
from modelport.repository import manifest as manifests
from modelport.repository.layout import DEFAULT_REPOSITORY, version_folder, version_numbers
from modelport.repository.publish import staged
from modelport.spec import check_model_name

RUN = "optimised_run"  # of the manifest's facts


@dataclass(frozen=True, kw_only=True)
class Climbed:
    """What was tried, and what came of it.

    Attributes:
        model: Name of the model that was optimised.
        origin: Its version.
        budget: What may be lost, in words.
        objective: `latency`, `throughput` or `size`.
        samples: How many were scored.
        rungs: Everything, from the cheapest to the dearest; at most one is `kept`.
        published: `NAME/VERSION` of the candidate; None where none was within the budget and better than the original.
        folder: Its folder.
        columns: Which columns of a table were scored as what, where their order said that and not their names.
    """

    model: str
    origin: int
    budget: str
    objective: str
    samples: int
    rungs: tuple[Tried, ...]
    published: str | None = None
    folder: Path | None = None
    columns: str = ""

    def require(self) -> None:
        """Refuse where nothing was published.

        Raises:
            VerificationError: With what was tried.
        """
        if self.published is not None:
            return
        tried = [one for one in self.rungs if one.state != NOT_TRIED]
        raise VerificationError(
            f"no version of {self.model}/{self.origin} is within {self.budget!r} and "
            f"{OBJECTIVES[self.objective]}: nothing was published",
            why="; ".join(f"{one.rung}: {one.why}" for one in tried or self.rungs),
            fix="allow more, calibrate with more samples, or choose another --objective",
            model=self.model,
        )


def optimise_within(
    reference: str,
    *,
    budget: str,
    objective: str = "latency",
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    name: str | None = None,
    kinds: Sequence[str] = (),
    calibration: str | None = None,
    ratio: float | None = None,
    data: Path | None = None,
    evaluation: str | None = None,
    count: int = samples.CALIBRATION_ROWS,
    options: Options | None = None,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    report: Report = lambda _: None,
) -> Climbed:
    """Try what makes a version smaller or faster, and publish the best within the budget as a candidate.

    What was tried is kept in the state folder: after an interruption the same call goes on, and does nothing twice.

    Args:
        reference: `NAME` or `NAME/VERSION`; without a version the one that serves.
        budget: What may be lost, such as `accuracy drop <= 0.01`; see `modelport.optimise.ladder.budget`.
        objective: What is to be best: `latency`, `throughput` or `size`.
        repository: Folder of the model repository.
        name: The model that it becomes a version of; None for the same model.
        kinds: Those to try; empty for all that make sense where the version runs.
        calibration: The only method for `int8`; None for each.
        ratio: The only share of channels for `pruned`; None for several.
        data: `.npz` with real samples to calibrate with; None for half of the evaluation data.
        evaluation: What to score with, as `modelport evaluate --data` takes it; None for that of gates or recipe.
        count: The most samples to calibrate with.
        options: How; the defaults when left out. Its calibration, ratio and max_drop are not used.
        rounds: In how many turns original and candidate are measured.
        seconds: How long each is measured in a round, for latency and rate each.
        report: Called with one line at each step.

    Returns:
        What was tried; where nothing could be published, `Climbed.require` says why.

    Raises:
        UsageError: Options that cannot be right, or a budget that does not fit the data.
        ModelNotFoundError, VersionNotFoundError: There is no such version.
        ManifestError: Its files are not what was published.
        DataError: The evaluation data that was named cannot be used.
        ExampleInputError: The samples do not fit the model.
        VerificationError: The original itself does not keep the budget.
        RepositoryError: The repository cannot be written, or the same ladder is being climbed.
    """
    root, how, wanted = Path(repository), options or Options(), budgets.parse(budget)
    wrong = _wrong(how, objective, ratio)
    check(replace(how, calibration=calibration or how.calibration), count, rounds, seconds, *wrong)
    if name is not None:
        check_model_name(name)
    report("reading the version")
    origin = origins.read(root, reference)
    _require_measurable(origin, objective)
    todo = ladder(origin, how, kinds=kinds, calibration=calibration, ratio=ratio)
    known = evaluation_of(evaluation, root, origin)
    found, todo = _gather(origin, data, known, count, todo)
    judge = wanted.applied(candidate.judge(origin, found, min_agreement=how.min_agreement))
    words = f"{origin.reference} is being optimised within a budget"
    with opened(_folder(root, origin, found, wanted, how, rounds, seconds), words) as workshop:
        task = Task(
            origin=origin,
            data=found,
            options=how,
            judge=judge,
            folder=workshop.folder,
            scratch=workshop.folder,
            repository=root,
            report=report,
        )
        done = Climbed(
            model=origin.manifest.spec.name,
            origin=origin.manifest.version,
            budget=str(wanted),
            objective=objective,
            samples=judge.rows,
            columns=known.columns if known is not None else "",
            rungs=explained(climb(todo, workshop, task, rounds=rounds, seconds=seconds), objective),
        )
        return _published(root, origin, workshop, todo.rungs, done, name or done.model, report)


def _published(
    root: Path, origin: Origin, workshop: Workshop, rungs: Sequence[Rung], done: Climbed, name: str, report: Report
) -> Climbed:
    """Publish what is to be kept, unless that was done before an interruption; then what was tried is not needed."""
    kept = next((one for one in done.rungs if one.state == KEPT), None)
    if kept is None:
        return done
    known = _version_of(root, name, workshop.run)
    if known is None:
        rung = next(one for one in rungs if one.words == kept.rung)
        facts = {
            "optimised_budget": done.budget,
            "optimised_objective": done.objective,
            "optimised_tried": json.dumps({one.rung: one.state for one in done.rungs}),
            RUN: workshop.run,
        }
        with staged(root, name) as staging:
            made = workshop.candidate(rung, kept, staging)
            made = replace(made, facts={**made.facts, **facts})
            known = optimised.publish(root, staging, origin, made, name=name, report=report).version
    workshop.clear()
    return replace(done, published=f"{name}/{known}", folder=version_folder(root, name, known))


def _version_of(root: Path, name: str, run: str) -> int | None:
    """The version that this climb has published already; None for none."""
    for version in reversed(version_numbers(root, name) if (root / name).is_dir() else []):
        if manifests.read(version_folder(root, name, version)).facts.get(RUN) == run:
            return version
    return None


def _gather(
    origin: Origin, file: Path | None, known: EvaluationData | None, count: int, todo: Ladder
) -> tuple[Data, Ladder]:
    """The samples, the same for all rungs; where they are too few to calibrate with, `int8` is left out."""
    fewest = {rung.to: kind_of(rung.to).SAMPLES for rung in todo.rungs}
    try:
        return samples.gather(origin, file, known, count=count, fewest=max(fewest.values(), default=0)), todo
    except ExampleInputError as exc:
        left = tuple(rung for rung in todo.rungs if not fewest[rung.to])
        if not left:
            raise
        found = samples.gather(origin, file, known, count=count, fewest=0)  # raises where they do not fit at all
        why = {kind: f"{exc.what}; {exc.fix}" for kind, least in fewest.items() if least}
        return found, Ladder(rungs=left, left_out={**why, **todo.left_out})


def _folder(
    root: Path, origin: Origin, found: Data, wanted: Budget, options: Options, rounds: int, seconds: float
) -> Path:
    """Where what was tried is kept: one folder for each version, its data, and everything that decides the outcome."""
    arrays = {f"calibration {name}": array for name, array in found.calibration.items()}
    arrays |= {f"scoring {name}": array for name, array in found.scoring.items()}
    arrays |= {} if found.truth is None else {"truth": found.truth}
    common = replace(options, calibration=Options.calibration, ratio=Options.ratio, max_drop=None)
    words = {
        "origin": origin.digest,
        "data": samples.digest_of(arrays),
        "metrics": found.metrics,
        "budget": str(wanted),
        "options": {name: str(value) for name, value in asdict(common).items()},
        "measured": [rounds, seconds],
        "recipe": _recipe(origin, options),
        "makers": [__version__, *(metadata.version(package) for package in ("onnxruntime", "onnx"))],
    }
    return unfinished.folder(root, origin.reference, "ladder", words)


def _recipe(origin: Origin, options: Options) -> str:
    try:
        path = origins.recipe_path(origin, options)
        return recipe_digest(path) if path.is_file() else ""
    except UsageError:
        return ""  # none is known: nothing is trained


def _wrong(options: Options, objective: str, ratio: float | None) -> list[str]:
    wrong = []
    if objective not in OBJECTIVES:
        wrong.append(f"objective {objective!r} is not one of {', '.join(OBJECTIVES)}")
    if ratio is not None and not 0 < ratio < 1:
        wrong.append(f"ratio {ratio} is not above 0 and below 1")
    if options.max_drop is not None:
        wrong.append("max_drop and a budget are both given")
    return wrong


def _require_measurable(origin: Origin, objective: str) -> None:
    if objective != "size" and on_gpu(origin):
        raise UsageError(
            f"{origin.reference} runs on a GPU: its {objective} is not measured here",
            why="original and candidates are measured on the processor, which says nothing about a GPU",
            fix="use --objective size, or --to with --max-drop; then measure both versions with 'modelport bench'",
        )
