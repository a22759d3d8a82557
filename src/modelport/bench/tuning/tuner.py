"""From what was asked for to what is looked for: the settings, the time of the model itself, the number of runs."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from modelport.bench import places
from modelport.bench.perf_program import Program
from modelport.bench.places import Report
from modelport.bench.tuning import candidates, fit, space
from modelport.bench.tuning.asked import Asked
from modelport.bench.tuning.candidates import Candidates
from modelport.bench.tuning.search import Problem, Run
from modelport.bench.tuning.space import THREADS
from modelport.errors import UsageError
from modelport.repository import config as configs
from modelport.repository.layout import config_path, parse_reference
from modelport.server import cores

PART_OF_SWEEP = 0.1  # of the runs that a full sweep of the space would take
FEWEST_TURNS = 6  # of a space that is small


@contextlib.contextmanager
def opened(asked: Asked, scratch: Path, program: Program, report: Report) -> Iterator[Candidates]:
    """A server of its own for settings of the model, with none loaded yet.

    Raises:
        UsageError: The model is an ensemble, or has no inputs to measure it with.
        ModelNotFoundError, VersionNotFoundError: There is no such version, or none serves.
        ServerError: The server does not start.
    """
    wanted = places.wanted(asked.repository, *parse_reference(asked.reference))
    require_tunable(asked.repository, wanted.model)
    report(f"starting a server for settings of {wanted}")
    with candidates.opened(
        asked.repository,
        wanted,
        scratch,
        program=program,
        kind=asked.kind,
        protocol=asked.protocol,
        interval_s=asked.interval_s,
        report=report,
    ) as found:
        yield found


def problem(asked: Asked, found: Candidates, report: Report) -> Problem:
    """What is looked for; the model itself is timed for it.

    Raises:
        ServerError, VerificationError: The version does not load, or does not answer as it should.
        UsageError: There are too few measurements for any search.
    """
    config, usable = found.config, cores.usable()
    largest = space.largest_batch(config, max(asked.clients))
    settings = space.space(
        largest=largest,
        cores=usable,
        threads=config.backend in THREADS,
        gpu=asked.target == "gpu" or (not asked.target and space.on_gpu(config)),
        most_delay_us=asked.budget_ms * 500 if asked.budget_ms is not None else float("inf"),
    )
    now = space.present(config, cores=usable)
    most = asked.max_measurements or default_measurements(len(settings), len(asked.clients), asked.repeats)
    if most < 2 * len(asked.clients):
        raise UsageError(
            f"--max-measurements {most} is too few",
            why=f"two settings at {len(asked.clients)} numbers of clients take {2 * len(asked.clients)}",
            fix="give more, or fewer numbers of clients with --concurrency",
        )
    run_us = {}
    for threads in sorted({one.threads for one in (*settings, now)}):
        report(f"timing the model itself{f' on {threads} threads' if threads else ''}")
        run_us[threads] = found.run_us(threads, largest)
    found.unload()
    return Problem(
        settings=settings,
        present=now,
        clients=asked.clients,
        goal=asked.goal,
        cores=usable,
        largest=largest,
        costs=dataclasses.replace(fit.USUAL, run_us=run_us),
        measurements=most,
        repeats=asked.repeats,
    )


def default_measurements(settings: int, loads: int, repeats: int) -> int:
    """How many runs a search may take: a tenth of those of a full sweep, but enough to look around at all."""
    return max(int(PART_OF_SWEEP * settings * repeats), FEWEST_TURNS) * loads


def row(run: Run) -> dict[str, object]:
    """A measurement for a result file."""
    return {
        "stage": run.stage,
        "round": run.round,
        "setting": dataclasses.asdict(run.setting),
        "clients": run.clients,
        "predicted": dataclasses.asdict(run.predicted),
        "measured": dataclasses.asdict(run.measured),
    }


def require_tunable(repository: Path, model: str) -> None:
    """Refuse an ensemble.

    Raises:
        UsageError: The model is one.
        ManifestError: Its configuration cannot be read.
    """
    config = configs.read(config_path(repository, model))
    steps = sorted({str(step.model_name) for step in config.ensemble_scheduling.step})
    if config.platform == configs.ENSEMBLE or steps:
        raise UsageError(
            f"{model!r} is an ensemble, which has no settings to tune",
            why=f"its models run by their own: {', '.join(steps)}",
            fix=f"tune these, such as: modelport tune {steps[0] if steps else 'NAME'}",
        )
