"""Measure in rounds: each round measures every target at every load, so that targets take turns all the time.

A machine that becomes slower or busier half-way then slows all of them alike, and ratios within a round hold. What is
kept is each run; summaries are computed from them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelport.bench import perf_analyzer
from modelport.bench.load import Load
from modelport.bench.perf_analyzer import WINDOWS, Job
from modelport.bench.perf_output import Measured
from modelport.bench.perf_program import Program


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run.

    Attributes:
        target: The name of what was measured.
        round: From 0.
        load: How it was asked.
        measured: What was seen.
    """

    target: str
    round: int
    load: Load
    measured: Measured


def measure(
    program: Program,
    jobs: Mapping[str, Job],
    loads: Sequence[Load],
    *,
    rounds: int,
    folder: Path,
    rows: list[Row],
    report: Callable[[str], None],
) -> None:
    """Warm every target up at the largest load, then measure them in turns.

    Args:
        program: perf_analyzer.
        jobs: Target name -> what is measured.
        loads: How.
        rounds: How often everything is measured.
        folder: An existing folder for perf_analyzer's output.
        rows: Gets each run when it is over, so that a measurement that is ended early leaves them.
        report: Called with one line at each step.

    Raises:
        ProcessError: A run failed.
    """
    for name, job in jobs.items():
        report(f"warming {name} up")
        perf_analyzer.measure(program, job, loads[-1], folder=folder)
    started = time.monotonic()
    count = rounds * len(loads) * len(jobs)
    for number in range(rounds):
        for load in loads:
            for name, job in _turn(jobs, number):
                each_s = (time.monotonic() - started) / len(rows) if rows else WINDOWS * job.interval_s
                words = f"{len(rows) + 1} of {count}, about {(count - len(rows)) * each_s:.0f} s to go"
                words += f": {load}, round {number + 1}{f', {name}' if len(jobs) > 1 else ''}"
                words += f"; before: {rows[-1].measured.inferences_per_s:,.0f} inferences/s" if rows else ""
                report(words)
                measured = perf_analyzer.measure(program, job, load, folder=folder)
                rows.append(Row(target=name, round=number, load=load, measured=measured))


def finished(rows: Sequence[Row], *, runs: int) -> list[Row]:
    """The rows of the rounds that were measured to their end.

    Args:
        rows: What was measured, in order.
        runs: How many a round has.
    """
    return list(rows[: len(rows) - len(rows) % runs]) if rows else []


def _turn(jobs: Mapping[str, Job], number: int) -> list[tuple[str, Job]]:
    """The targets, each round in the other order: the second always ran on a machine that was busy just before."""
    items = list(jobs.items())
    return items[::-1] if number % 2 else items
