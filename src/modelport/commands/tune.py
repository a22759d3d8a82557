"""The verb `tune`: find the instances, threads, batches and delay with which a model is served best on this machine."""

from __future__ import annotations

import datetime
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from modelport.bench import perf_analyzer, perf_program, results
from modelport.bench.places import Report
from modelport.bench.results import Spread
from modelport.bench.tuning import asked as asking
from modelport.bench.tuning import tuner
from modelport.bench.tuning.asked import CONFIG, Asked
from modelport.bench.tuning.search import Search
from modelport.bench.tuning.simulate import Predicted
from modelport.bench.tuning.space import Setting, applied
from modelport.commands.bench import FOLDER, PACKAGES, writable
from modelport.lifecycle import configure
from modelport.lifecycle.configure import Configured
from modelport.repository.layout import parse_reference


@dataclass(frozen=True, kw_only=True)
class Line:
    """A setting that was measured, at one load.

    Attributes:
        setting: How the model was served.
        clients: How many asked.
        predicted: What was expected before it was measured.
        measured: Medians of the rounds.
        rounds: How many there were.
    """

    setting: Setting
    clients: int
    predicted: Predicted
    measured: Predicted
    rounds: int


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What was found.

    Attributes:
        model: Model name.
        version: Its version.
        wanted: The objective in words.
        best: The best setting.
        present: The setting in `config.pbtxt` before.
        ratio: How many times as good as the present setting the best one is, in each round; None without rounds.
        within_budget: Whether the best one keeps the latency budget; True where there is none.
        lines: All that was measured.
        measurements: Runs of perf_analyzer.
        settings: How many settings there were to choose from.
        file: Every run.
        written: Where the best setting was written; None where it was not.
        withheld: Why it was not written though that was asked for; empty otherwise.
    """

    model: str
    version: int
    wanted: str
    best: Setting
    present: Setting
    ratio: Spread | None
    within_budget: bool
    lines: tuple[Line, ...]
    measurements: int
    settings: int
    file: Path
    written: Configured | None = None
    withheld: str = ""

    def against(self, where: str) -> str:
        """What speaks against writing the best setting; empty where nothing does.

        Args:
            where: `config`, where it takes the place of the present one, or a file beside it.
        """
        if not self.within_budget:
            return "no setting that was measured keeps the latency budget"
        if where != CONFIG:
            return ""
        if self.best == self.present:
            return "the present setting is the best one"
        if self.ratio is not None and self.ratio.low <= 1:
            return "no difference to the present setting is shown; more --repeats, or a longer --interval, may show one"
        return ""

    @property
    def reason(self) -> str:
        """One line for whoever reads the configuration."""
        seen = {line.clients: line.measured for line in self.lines if line.setting == self.best}
        figures = "; ".join(
            f"{clients}: {one.rate:,.0f}/s, p99 {one.latency_us[99] / 1000:.2f} ms" for clients, one in seen.items()
        )
        ratio = "" if self.ratio is None or self.best == self.present else f"; x {self.ratio.median:.2f} of before"
        day = datetime.datetime.now(datetime.timezone.utc).date()
        return (
            f"{self.best} for {self.wanted} (version {self.version}, {day}, {self.measurements} measurements); "
            f"clients {figures}{ratio}"
        )


def tune(asked: Asked, *, output: Path | None = None, tell: Report = lambda _: None) -> Tuned:
    """Find the best setting of a model on this machine, and write it where that is asked for.

    The settings run in a server of their own; a running service is not touched, but takes its part of the machine.

    Args:
        asked: What is wanted.
        output: The result file. Left out, a new one in `benchmarks/results`.
        tell: Called with one line at each step.

    Raises:
        UsageError: Options that cannot be right; the model is an ensemble, or has no inputs to measure it with; no file
            can be written where `output` is.
        EnvironmentUnfitError: There is no perf_analyzer.
        ModelNotFoundError, VersionNotFoundError: There is no such model or version.
        ServerError, VerificationError: A setting does not load, or does not answer as it should.
        ProcessError: perf_analyzer failed.
    """
    asking.check(asked)
    program = perf_program.find()
    file = writable(output or _new_file(parse_reference(asked.reference)[0]))
    circumstances = results.conditions(PACKAGES)
    circumstances["command"] = perf_analyzer.shown(circumstances["command"])
    with (
        tempfile.TemporaryDirectory(prefix="modelport-tune-") as scratch,
        tuner.opened(asked, Path(scratch), program, tell) as found,
    ):
        problem = tuner.problem(asked, found, tell)
        search = Search(problem=problem, measure=found.measure, report=tell)
        wanted = found.wanted
        about = {
            "kind": "modelport tune",
            "model": wanted.model,
            "version": wanted.version,
            "settings": _settings(asked),
        }
        circumstances = {**about, **circumstances, "perf_analyzer": program.version}
        try:
            search.run()
        except BaseException as exc:  # Ctrl-C, or a run that failed: what was measured is kept
            if search.runs:
                rows = [tuner.row(run) for run in search.runs]
                results.write(
                    file, circumstances={**circumstances, "stopped": f"{type(exc).__name__}: {exc}"}, rows=rows
                )
                tell(f"what was measured until now is in {file}")
            raise
    fitted = {
        "costs": asdict(search.costs),
        "best": asdict(search.best()),
        "present": asdict(problem.present),
        "failed": {str(setting): why for setting, why in search.failed.items()},
    }
    results.write(
        file,
        circumstances={**circumstances, **fitted},
        rows=[tuner.row(run) for run in search.runs],
    )
    done = _tuned(search, wanted.model, wanted.version, file)
    if not asked.write:
        return done
    withheld = done.against(asked.write)
    return replace(done, withheld=withheld) if withheld else _written(asked, done, tell)


def _tuned(search: Search, model: str, version: int, file: Path) -> Tuned:
    problem, best = search.problem, search.best()
    ratios = search.ratios(best)
    lines = []
    for setting in search.explored:
        expected, seen = search.expected(setting), search.seen(setting)
        for clients in problem.clients:
            own = [run for run in search.runs if run.setting == setting and run.clients == clients]
            finals = sum(run.stage == "final" for run in own)
            lines.append(
                Line(
                    setting=setting,
                    clients=clients,
                    predicted=expected[clients],
                    measured=seen[clients],
                    rounds=finals or len(own),
                )
            )
    return Tuned(
        model=model,
        version=version,
        wanted=problem.goal.words(problem.clients),
        best=best,
        present=problem.present,
        ratio=results.spread(ratios) if ratios else None,
        within_budget=problem.goal.keeps(search.seen(best)),
        lines=tuple(lines),
        measurements=len(search.runs),
        settings=len(problem.settings),
        file=file,
    )


def _written(asked: Asked, done: Tuned, tell: Report) -> Tuned:
    def change(config: Any) -> Any:
        return applied(config, done.best, kind=asked.kind)

    if asked.write == CONFIG:
        written = configure.configure(done.model, change, reason=done.reason, repository=asked.repository, report=tell)
    else:
        written = configure.write_beside(
            done.model, asked.beside, change, reason=done.reason, repository=asked.repository
        )
    return replace(done, written=written)


def _settings(asked: Asked) -> dict[str, Any]:
    return {name: value for name, value in asdict(asked).items() if name not in ("repository", "reference")}


def _new_file(model: str) -> Path:
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%d-%H%M%S")
    return FOLDER / f"tune-{model}-{stamp}.json"
