"""Climb a ladder: try each rung once, say which one is best, and why the others are not."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from modelport.bench.results import Spread
from modelport.errors import ConversionError, ModelportError, RepositoryError, VerificationError
from modelport.optimise.candidate import attempt, load
from modelport.optimise.ladder.rungs import Ladder, Rung
from modelport.optimise.ladder.tried import IMPOSSIBLE, NOT_TRIED, PASSED, REFUSED, Tried, Workshop
from modelport.optimise.measure import Measured
from modelport.optimise.scoring import Score
from modelport.optimise.types import FILENAME, Report, Task

KEPT = "kept"
OBJECTIVES = {"latency": "faster", "throughput": "more throughput", "size": "smaller"}


def climb(ladder: Ladder, workshop: Workshop, task: Task, *, rounds: int, seconds: float) -> list[Tried]:
    """Try what was not tried before.

    Args:
        ladder: What to try.
        workshop: Where what was tried is kept.
        task: What all rungs have in common; its judge knows the budget.
        rounds: In how many turns original and candidate are measured.
        seconds: How long each is measured in a round.

    Returns:
        What came of each rung, in their order, then what was left out.

    Raises:
        RepositoryError: The disk refused; or another process trains the same.
    """
    found: list[Tried] = []
    if workshop.begun:
        task.report("going on from where it was interrupted")
    for number, rung in enumerate(ladder.rungs, start=1):
        say = _prefixed(task.report, f"{number} of {len(ladder.rungs)}, {rung.words}")
        known, why = workshop.read(rung), _pointless(rung, found)
        if known is None and why:
            known = Tried(rung=rung.words, to=rung.to, state=NOT_TRIED, why=why)
        if known is None:
            known = _try(rung, workshop, replace(task, options=rung.options, report=say), rounds, seconds)
            say(known.state)
        found.append(known)
    return found + [Tried(rung=kind, to=kind, state=NOT_TRIED, why=why) for kind, why in ladder.left_out.items()]


def gain(measured: Measured, objective: str) -> Spread:
    """How many times as good as the original it is: in latency, rows per second, or size."""
    if objective == "size":
        return Spread(median=measured.smaller, low=measured.smaller, high=measured.smaller)
    return measured.faster if objective == "latency" else measured.more


def best(tried: Sequence[Tried], objective: str) -> Tried | None:
    """What gains most within the budget; None where nothing is better than the original in each round."""
    gains = {one.rung: gain(one.measured, objective) for one in tried if one.measured is not None}
    better = [one for one in tried if one.rung in gains and gains[one.rung].low > 1]
    return max(better, key=lambda one: gains[one.rung].median, default=None)


def explained(tried: Sequence[Tried], objective: str) -> tuple[Tried, ...]:
    """The same, with the best one marked, and why the others within the budget were not taken."""
    taken = best(tried, objective)
    word = OBJECTIVES[objective]

    def one(each: Tried) -> Tried:
        if taken is not None and each.rung == taken.rung:
            return replace(each, state=KEPT)
        if each.measured is None:
            return each
        own = gain(each.measured, objective)
        if own.low > 1 and taken is not None:
            return replace(each, why=f"{taken.rung} is {word}")
        return replace(each, why=f"not {word} in each round: {own.median:.2f} x ({own.low:.2f} to {own.high:.2f})")

    return tuple(map(one, tried))


def _try(rung: Rung, workshop: Workshop, task: Task, rounds: int, seconds: float) -> Tried:
    progress = None  # of training; of what is refused it stays, for another budget
    with workshop.making() as folder, tempfile.TemporaryDirectory(prefix="modelport-optimise-") as scratch:
        task = replace(task, folder=folder, scratch=Path(scratch))
        try:
            made = attempt(task, rung.to, rounds=rounds, seconds=seconds)
        except RepositoryError:
            raise
        except (VerificationError, ConversionError) as exc:
            refused, scores = isinstance(exc, VerificationError), _scores(task)
            if refused and not scores:  # such as weights that are not the version's: they may be there another time
                return Tried(rung=rung.words, to=rung.to, state=NOT_TRIED, why=f"{_words(exc)}; {exc.fix}")
            tried = Tried(
                rung=rung.words,
                to=rung.to,
                state=REFUSED if refused else IMPOSSIBLE,
                why=exc.what if refused else _words(exc),
                scores=scores,
            )
        except ModelportError as exc:  # something is missing, or an option is wrong: that may change
            return Tried(rung=rung.words, to=rung.to, state=NOT_TRIED, why=f"{_words(exc)}; {exc.fix}")
        else:
            progress = made.progress
            tried = Tried(
                rung=rung.words,
                to=rung.to,
                state=PASSED,
                scores=made.scores,
                drop=made.drop,
                measured=made.measured,
                facts=made.facts,
                notes=made.notes,
                own=made.own,
            )
        tried = workshop.keep(rung, tried, folder)
    if progress is not None:
        shutil.rmtree(progress, ignore_errors=True)  # another process may be removing it as well
    return tried


def _scores(task: Task) -> tuple[Score, ...]:
    """Of what was refused; none where nothing was written."""
    artefact = task.folder / FILENAME
    return task.judge.scores(load(artefact, task.origin)) if artefact.is_file() else ()


def _pointless(rung: Rung, found: Sequence[Tried]) -> str:
    """Why a rung need not be tried after what came of those before it; empty where it has to be."""
    for before in (one for one in found if one.to == rung.to):
        if before.state == NOT_TRIED or (rung.to == "int8" and before.state == IMPOSSIBLE):
            return f"as {before.rung}"
        everything = before.facts.get("optimised_layers_excluded", "") == ", ".join(rung.options.exclude)
        if rung.to == "int8" and before.state == PASSED and everything:
            return f"all layers are quantised in {before.rung}: other ranges make it neither smaller nor faster"
        if rung.to == "pruned" and before.state == REFUSED:
            return f"{before.rung} loses too much already"
    return ""


def _words(exc: ModelportError) -> str:
    return f"{exc.what}: {exc.why}" if exc.why else exc.what


def _prefixed(report: Report, words: str) -> Report:
    return lambda text: report(f"{words}: {text}")
