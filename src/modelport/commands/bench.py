"""The verb `bench`: measure a served model with perf_analyzer, in repeated rounds, and compare results."""

from __future__ import annotations

import contextlib
import datetime
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelport.bench import asked as asking
from modelport.bench import compare as comparing
from modelport.bench import perf_analyzer, perf_program, report, results, rounds, stored, targets
from modelport.bench.asked import Asked
from modelport.bench.compare import Comparison
from modelport.bench.perf_analyzer import WINDOWS, Job
from modelport.bench.perf_program import Program
from modelport.bench.places import Report
from modelport.bench.rounds import Row
from modelport.bench.stored import Stored
from modelport.errors import ModelportError, UsageError

PACKAGES = ("modelport", "nvidia-pytriton", "tritonclient", "onnxruntime", "torch", "numpy")
FOLDER = Path("benchmarks/results")


@dataclass(frozen=True, kw_only=True)
class Benched:
    """What was measured, and where it is.

    Attributes:
        results: What was asked for; behind it what it was measured against, if anything.
        files: Their files.
        html: The report.
        comparison: The first against the second, where there are two.
    """

    results: tuple[Stored, ...]
    files: tuple[Path, ...]
    html: Path
    comparison: Comparison | None = None


def bench(
    asked: Asked,
    *,
    output: Path | None = None,
    tell: Report = lambda _: None,
    partly: Callable[[Benched], None] = lambda _: None,
) -> Benched:
    """Measure a served model with perf_analyzer; write a result file for each target, and a report.

    Rounds that were finished before Ctrl-C or a failure are written all the same; then the error goes on.

    Args:
        asked: What is measured, and how.
        output: The first target's .json file; the report goes beside it. Left out, a new one in `benchmarks/results`.
        tell: Called with one line at each step.
        partly: Called with the finished rounds of a measurement that was ended early, if there are any.

    Raises:
        UsageError: Options that cannot be right, all of them; or no file can be written where `output` is.
        EnvironmentUnfitError: There is no perf_analyzer.
        ModelNotFoundError, VersionNotFoundError: There is no such model or version.
        VerificationError: The server does not answer the golden inputs as it should; nothing is measured.
        ProcessError: perf_analyzer failed, with its words.
    """
    asking.check(asked)
    if output is not None:
        _require_suffix(output, ".json")
    program = perf_program.find()
    circumstances = results.conditions(PACKAGES)
    circumstances["command"] = perf_analyzer.shown(circumstances["command"])
    series = f"{circumstances['time']} {os.urandom(4).hex()}"
    loads = asked.loads()
    jobs: dict[str, Job] = {}
    facts: dict[str, dict[str, Any]] = {}
    rows: list[Row] = []

    def write(rows: Sequence[Row], stopped: str = "") -> Benched:
        found = [
            Stored(
                name=name,
                series=series,
                target=facts[name],
                settings=_settings(program, job, asked) | ({"stopped": stopped} if stopped else {}),
                rows=tuple(row for row in rows if row.target == name),
                circumstances=circumstances,
            )
            for name, job in jobs.items()
        ]
        return _written(found, path)

    try:
        with tempfile.TemporaryDirectory(prefix="modelport-bench-") as scratch, contextlib.ExitStack() as stack:
            folder = Path(scratch)
            jobs |= targets.jobs(asked, folder, stack, tell)
            facts |= {name: targets.facts(job) for name, job in jobs.items()}
            path = writable(output or _new_file(next(iter(facts.values()))))
            rounds.measure(program, jobs, loads, rounds=asked.repeats, folder=folder, rows=rows, report=tell)
    except (KeyboardInterrupt, SystemExit, ModelportError):
        whole = rounds.finished(rows, runs=len(jobs) * len(loads))
        if whole:
            partly(write(whole, f"after {whole[-1].round + 1} of {asked.repeats} rounds"))
        raise
    return write(rows)


def compare(first: Path, second: Path, *, html: Path | None = None) -> Comparison:
    """Compare two result files.

    Args:
        first: Of A.
        second: Of B.
        html: The .html file for a report of both; None for none.

    Raises:
        UsageError: One is no result file, they have no load in common, or the report cannot be written.
    """
    both = (stored.read(first), stored.read(second))
    if html is not None:
        _require_suffix(html, ".html")
        writable(html)
    found = comparing.compare(*both)
    if html is not None:
        report.write(html, both, found)
    return found


def _settings(program: Program, job: Job, asked: Asked) -> dict[str, Any]:
    command = perf_analyzer.command(program, job, asked.loads()[0], Path("latencies.csv"))
    return {
        "batch_size": asked.batch_size,
        "shared_memory": asked.shared_memory,
        "interval_s": asked.interval_s,
        "windows": WINDOWS,
        "rounds": asked.repeats,
        "perf_analyzer": program.version,
        "perf_analyzer_sha256": program.sha256,
        "perf_analyzer_command": perf_analyzer.shown(command),
    }


def _written(found: Sequence[Stored], path: Path) -> Benched:
    """Write the raw results first: a report can be made again."""
    files = (path, path.with_name(f"{path.stem}-against{path.suffix}"))[: len(found)]
    for file, one in zip(files, found, strict=True):
        stored.write(file, one)
    comparison = comparing.compare(*found) if len(found) == 2 else None
    html = path.with_suffix(".html")
    report.write(html, found, comparison)
    return Benched(results=tuple(found), files=files, html=html, comparison=comparison)


def _require_suffix(path: Path, suffix: str) -> None:
    """Both files of a result have the same name, and a report must not take the place of figures."""
    if path.suffix != suffix:
        raise UsageError(
            f"--output {path} does not end with {suffix}",
            why="a measurement writes figures (.json) and a report beside them (.html), --compare a report",
            fix=f"give {path.with_suffix(suffix) if path.name else 'a file'}",
        )


def writable(path: Path) -> Path:
    """The path, once a file can be written there: that is not to be found out after an hour of measuring."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as exc:
        raise UsageError(
            f"no file can be written in {path.parent}", why=str(exc), fix="name another place with --output"
        ) from exc


def _new_file(first: Mapping[str, Any]) -> Path:
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%d-%H%M%S")
    version = first["version"] or "serving"
    return FOLDER / f"bench-{first['model']}-{version}-{first['protocol']}-{stamp}.json"
