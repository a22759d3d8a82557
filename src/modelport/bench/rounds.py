"""Measure in rounds: each round measures every target at every load, so that targets take turns all the time.

A machine that becomes slower or busier half-way then slows all of them alike, and ratios within a round hold. What is
kept is each run; summaries are computed from them.
"""

from __future__ import annotations

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
    report: Callable[[str], None],
) -> list[Row]:
    """Warm every target up at the largest load, then measure them in turns.

    Args:
        program: perf_analyzer.
        jobs: Target name -> what is measured.
        loads: How.
        rounds: How often everything is measured.
        folder: An existing folder for perf_analyzer's output.
        report: Called with one line at each step.

    Raises:
        ProcessError: A run failed.
    """
    for name, job in jobs.items():
        report(f"warming {name} up")
        perf_analyzer.measure(program, job, loads[-1], folder=folder)
    rows: list[Row] = []
    count = rounds * len(loads) * len(jobs)
    for number in range(rounds):
        for load in loads:
            for name, job in _turn(jobs, number):
                report(_step(len(rows), count, number, rounds, name, load, job, rows))
                measured = perf_analyzer.measure(program, job, load, folder=folder)
                rows.append(Row(target=name, round=number, load=load, measured=measured))
    return rows


def _turn(jobs: Mapping[str, Job], number: int) -> list[tuple[str, Job]]:
    """The targets, each round in the other order: the second always ran on a machine that was busy just before."""
    items = list(jobs.items())
    return items[::-1] if number % 2 else items


def _step(done: int, count: int, number: int, rounds: int, name: str, load: Load, job: Job, rows: Sequence[Row]) -> str:
    left_s = (count - done) * WINDOWS * job.interval_s
    before = f"; the last one: {rows[-1].measured.inferences_per_s:,.0f} inferences/s" if rows else ""
    return f"{done + 1} of {count}, {left_s:.0f} s to go: round {number + 1} of {rounds}, {name}, {load}{before}"
