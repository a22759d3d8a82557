"""`modelport tune` against trying everything: how good is what it finds, and with how many measurements.

    python benchmarks/tuning.py                    three sample models, throughput at 32 clients, p99 within 20 ms
    python benchmarks/tuning.py --quick            one of them, each setting once, short windows
    python benchmarks/tuning.py --models resnet18 --concurrency 8 --objective latency

For each model the tuner searches first, knowing nothing. Then every setting of the same space is measured, once in each
round, in an order that is shuffled anew for each round; the best medians are the sweep's result. A single best of many
noisy figures is better than it is, so the sweep's best settings and the tuner's then take turns again, and the ratio of
the tuner's to the best of the sweep's is taken within each of these rounds. The file keeps every run of all three
parts, with their numbers and seconds.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelport.bench import perf_program, results
from modelport.bench.tuning import tuner
from modelport.bench.tuning.asked import Asked
from modelport.bench.tuning.candidates import Candidates
from modelport.bench.tuning.goal import Goal
from modelport.bench.tuning.search import Problem, Run, Search, Seen, middle
from modelport.bench.tuning.space import Setting

MODELS = ("linear_regression", "digits_cnn", "resnet18")
PACKAGES = ("modelport", "nvidia-pytriton", "onnxruntime", "numpy")
RESULTS = Path(__file__).with_name("results")
LOADED = 12  # settings that stay loaded side by side
BEST = 3  # of the sweep, which meet the tuner's again


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one model gave."""

    model: str
    best: Setting
    swept: Setting
    ratios: tuple[float, ...]
    tuner_runs: int
    sweep_runs: int
    tuner_s: float
    sweep_s: float
    within_budget: tuple[bool, bool]
    rows: tuple[dict[str, Any], ...]

    @property
    def facts(self) -> dict[str, Any]:
        """For the result file, beside the runs."""
        return {name: value for name, value in asdict(self).items() if name != "rows"}


def measured(found: Candidates, problem: Problem, setting: Setting, stage: str, number: int) -> list[Run]:
    """A setting with each number of clients; what is not needed any more is unloaded."""
    if setting not in found.names and len(found.names) >= LOADED:
        found.unload()
    runs = []
    for clients in problem.clients:
        seen = found.measure(setting, clients)
        runs.append(
            Run(setting=setting, clients=clients, stage=stage, round=number, predicted=middle([seen]), measured=seen)
        )
    return runs


def medians(runs: Iterable[Run]) -> dict[Setting, Seen]:
    """What was seen of each setting."""
    kept: dict[Setting, dict[int, list[Run]]] = {}
    for run in runs:
        kept.setdefault(run.setting, {}).setdefault(run.clients, []).append(run)
    return {
        setting: {clients: middle([run.measured for run in own]) for clients, own in by_clients.items()}
        for setting, by_clients in kept.items()
    }


def sweep(found: Candidates, problem: Problem, repeats: int) -> list[Run]:
    """Every setting, once in each round."""
    runs: list[Run] = []
    order, shuffle = list({*problem.settings, problem.present}), random.Random(0)
    for number in range(repeats):
        shuffle.shuffle(order)
        for count, setting in enumerate(order, start=1):
            runs += measured(found, problem, setting, "sweep", number)
            print(f"  sweep {number + 1}, {count} of {len(order)}: {setting}: "
                  f"{runs[-1].measured.inferences_per_s:,.0f}/s", flush=True)  # fmt: skip
    return runs


def meet(found: Candidates, problem: Problem, settings: list[Setting], rounds: int) -> list[Run]:
    """The best settings of both, in turns."""
    runs: list[Run] = []
    found.unload(keep=settings)
    for number in range(rounds):
        for setting in settings[::-1] if number % 2 else settings:
            runs += measured(found, problem, setting, "again", number)
    return runs


def ratios(runs: list[Run], goal: Goal, best: Setting, swept: Setting) -> tuple[float, ...]:
    """The tuner's setting over the sweep's, within each round."""
    rounds: dict[int, list[Run]] = {}
    for run in runs:
        rounds.setdefault(run.round, []).append(run)
    seen: list[Mapping[Setting, Seen]] = [medians(own) for own in rounds.values()]
    return tuple(goal.value(one[best]) / goal.value(one[swept]) for one in seen)


def compare(asked: Asked, options: argparse.Namespace, scratch: Path) -> Found:
    """Tune one model, sweep it, and let the results meet."""
    program = perf_program.find()
    with tuner.opened(asked, scratch, program, print) as found:
        began = time.monotonic()
        problem = tuner.problem(asked, found, print)
        search = Search(problem=problem, measure=found.measure, report=print)
        best = search.run()
        tuned_s = time.monotonic() - began
        began = time.monotonic()
        swept_runs = sweep(found, problem, asked.repeats)
        sweep_s = time.monotonic() - began
        goal, seen = problem.goal, medians(swept_runs)
        top = sorted(seen, key=lambda one: goal.order(seen[one]), reverse=True)[:BEST]
        again = meet(found, problem, list(dict.fromkeys([best, *top])), options.rounds)
        met = medians(again)
        swept = max(top, key=lambda one: goal.order(met[one]))
        return Found(
            model=found.wanted.model,
            best=best,
            swept=swept,
            ratios=ratios(again, goal, best, swept),
            tuner_runs=len(search.runs),
            sweep_runs=len(swept_runs),
            tuner_s=tuned_s,
            sweep_s=sweep_s,
            within_budget=(goal.keeps(met[best]), goal.keeps(met[swept])),
            rows=tuple({"model": found.wanted.model, **tuner.row(run)} for run in [*search.runs, *swept_runs, *again]),
        )


def summary(found: Found) -> str:
    ratio = results.spread(found.ratios)
    part = found.tuner_runs / found.sweep_runs
    flags = ["unstable"] if ratio.unstable else []
    flags += [] if found.within_budget[0] == found.within_budget[1] else [f"within the budget: {found.within_budget}"]
    lines = [
        f"{found.model}: {statistics.median(found.ratios):.3f} of the sweep's best ({ratio.low:.3f} to {ratio.high:.3f}"
        f" in {len(found.ratios)} rounds), with {found.tuner_runs} of {found.sweep_runs} measurements ({part:.1%}),"
        f" {found.tuner_s:.0f} of {found.sweep_s:.0f} s {' '.join(flags)}",
        f"  tuner: {found.best}",
        f"  sweep: {found.swept}",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--models", nargs="+", default=None, help=f"default: {', '.join(MODELS)}")
    parser.add_argument("--objective", choices=("throughput", "latency"), default="throughput")
    parser.add_argument("--concurrency", default="32")
    parser.add_argument("--latency-budget-ms", type=float, default=20.0, help="0 for none")
    parser.add_argument("--percentile", type=int, default=99)
    parser.add_argument("--repeats", type=int, default=3, help="rounds of the sweep, and of the tuner's finalists")
    parser.add_argument("--rounds", type=int, default=7, help="rounds in which both results meet")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds of a window; each run takes three")
    parser.add_argument(
        "--quick", action="store_true", help="one model, each setting once, at most 3 rounds, windows of at most 0.2 s"
    )
    parser.add_argument("--output", type=Path, default=RESULTS / "tuning.json")
    options = parser.parse_args()
    if options.quick:
        options.models = options.models or ["digits_cnn"]
        options.repeats, options.rounds = 1, min(3, options.rounds)
        options.interval = min(0.2, options.interval)
    circumstances = results.conditions(PACKAGES)
    every: list[Found] = []
    for model in options.models or MODELS:
        asked = Asked(
            reference=model,
            repository=options.repository,
            objective=options.objective,
            budget_ms=options.latency_budget_ms or None,
            percent=options.percentile,
            concurrency=options.concurrency,
            repeats=options.repeats,
            interval_s=options.interval,
        )
        with tempfile.TemporaryDirectory(prefix="modelport-tuning-") as scratch:
            every.append(compare(asked, options, Path(scratch)))
        print(summary(every[-1]), flush=True)
        about = {"models": [one.facts for one in every], "perf_analyzer": perf_program.find().version}
        rows = [row for one in every for row in one.rows]
        results.write(options.output, circumstances={**circumstances, **about}, rows=rows)
    print("\n".join([*map(summary, every), f"every run: {options.output}"]))


if __name__ == "__main__":
    main()
