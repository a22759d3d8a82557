"""Find the best setting with few measurements: a simulation says what to measure, and what was measured corrects it.

What a simulation gets wrong, it gets wrong alike for settings that are alike. So the logarithm of measured over
simulated is taken for a smooth function over the settings (a Gaussian process, Rasmussen and Williams, algorithm 2.1),
and each next setting is the one that is best with this correction, and with the benefit of the doubt where nothing like
it was measured.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from modelport.bench.perf_output import Measured
from modelport.bench.tuning.fit import Observed, fit
from modelport.bench.tuning.goal import Goal
from modelport.bench.tuning.simulate import Costs, Predicted, simulate
from modelport.bench.tuning.space import Setting
from modelport.errors import ProcessError, ServerDiedError, ServerError

FINALISTS = 3
WORTH = 1.01  # times as good as the present setting that another one must be
DOUBT = 0.5  # deviations by which what was not measured may be better than expected
_SPREAD, _NOISE = 0.15, 0.04  # of the logarithms: of the correction, of a measurement
_REFIT = (1, 3, 6, 12)  # after so many settings; the last ones change little

Measure = Callable[[Setting, int], Measured]
Report = Callable[[str], None]
Seen = dict[int, Predicted]  # by the number of clients


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is looked for.

    Attributes:
        settings: Among which; the present one may be none of them.
        present: How the model is served now.
        clients: Numbers of clients.
        goal: What is wanted.
        cores: Cores that all of it shares.
        largest: The largest batch that a run may have.
        costs: What is known of them before anything is measured.
        measurements: How many may be made; each is one run with one number of clients.
        repeats: Rounds of the finalists.
    """

    settings: Sequence[Setting]
    present: Setting
    clients: tuple[int, ...]
    goal: Goal
    cores: int
    largest: int
    costs: Costs
    measurements: int
    repeats: int

    @property
    def finalists(self) -> int:
        """How many settings are measured in rounds; 0 where that leaves too little for looking around."""
        most = min(FINALISTS, (self.turns // 2) // self.repeats, len({*self.settings, self.present}))
        return most if self.repeats > 1 and most > 1 else 0

    @property
    def turns(self) -> int:
        """How often a setting may be measured, each time with all numbers of clients."""
        return self.measurements // len(self.clients)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A measurement.

    Attributes:
        setting: What was measured.
        clients: How many asked.
        stage: `explore` or `final`.
        round: From 0.
        predicted: What was expected when the setting was chosen.
        measured: What was seen.
    """

    setting: Setting
    clients: int
    stage: str
    round: int
    predicted: Predicted
    measured: Measured


@dataclass
class Search:
    """The state of a search, and in the end what it found.

    Attributes:
        runs: All measurements, in the order of time.
        costs: As fitted to them.
        failed: Settings that could not be measured, each with the reason.
    """

    problem: Problem
    measure: Measure
    report: Report
    runs: list[Run] = field(default_factory=list)
    costs: Costs = field(init=False)
    failed: dict[Setting, str] = field(default_factory=dict)
    _simulated: dict[Setting, Seen] = field(default_factory=dict)
    _expected: dict[Setting, Seen] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.costs = self.problem.costs

    @property
    def explored(self) -> list[Setting]:
        """The settings that were measured, the present one first."""
        return list(dict.fromkeys(run.setting for run in self.runs))

    def seen(self, setting: Setting) -> Seen:
        """What was measured of a setting: medians of the rounds, and of the final ones where there are some."""
        own = [run for run in self.runs if run.setting == setting]
        own = [run for run in own if run.stage == "final"] or own
        return {n: middle([run.measured for run in own if run.clients == n]) for n in self.problem.clients}

    def expected(self, setting: Setting) -> Seen:
        """What was predicted when the setting was chosen."""
        return self._expected[setting]

    def best(self) -> Setting:
        """The best setting: of those that took turns by their ratios to the present one, which stays where none is
        worth a change; of all that were measured where none took turns."""
        order = self.problem.goal.order
        final = list(dict.fromkeys(run.setting for run in self.runs if run.stage == "final"))
        if not final:
            return max(self.explored, key=lambda one: order(self.seen(one)))
        ratios = {one: statistics.median(self.ratios(one)) for one in final}
        ratios = {one: value if value > WORTH else min(1.0, value) for one, value in ratios.items()}

        def rank(one: Setting) -> tuple[bool, float]:
            kept, value = order(self.seen(one))
            return (kept, ratios[one] if kept else value)

        return max(final, key=rank)  # the present one is the first: it wins a tie

    def ratios(self, setting: Setting) -> list[float]:
        """How many times as good as the present setting one is, in each round; empty where they took no turns."""
        values: dict[Setting, list[float]] = {setting: [], self.problem.present: []}
        for one, found in values.items():
            for number in range(self.problem.repeats):
                own = [run for run in self.runs if (run.stage, run.round, run.setting) == ("final", number, one)]
                if own:
                    found.append(self.problem.goal.value({run.clients: middle([run.measured]) for run in own}))
        if not values[setting]:
            return []
        return [a / b for a, b in zip(values[setting], values[self.problem.present], strict=True)]

    def run(self) -> Setting:
        """Look around, then let the best ones and the present one take turns. Gives the best."""
        problem = self.problem
        self._explore(problem.present, problem.turns - problem.finalists * problem.repeats)
        finalists = self._finalists()
        for number in range(problem.repeats if finalists else 0):
            for setting in finalists[::-1] if number % 2 else finalists:
                self._measure(setting, "final", number)
        return self.best()

    def _explore(self, first: Setting, count: int) -> None:
        chosen: Setting | None = first
        for done in range(1, count + 1):
            if chosen is None:
                return
            self._expected[chosen] = self._believed(chosen)
            self._try(chosen)
            if done in _REFIT:
                self._refit()
            chosen = self._next(count - done)

    def _try(self, setting: Setting) -> None:
        """Measure a setting; one that cannot be served is none to choose, unless it is the present one."""
        try:
            self._measure(setting, "explore", 0)
        except (ServerError, ProcessError) as exc:
            if setting == self.problem.present or isinstance(exc, ServerDiedError):
                raise
            self.runs = [run for run in self.runs if run.setting != setting]
            self.failed[setting] = f"{exc.what}: {exc.why}"
            self.report(f"{setting} cannot be measured: {exc.what}: {exc.why}")

    def _next(self, left: int) -> Setting | None:
        """The setting to look at next: the best one of each group first, as far as there are measurements for that."""
        rest = [one for one in self.problem.settings if one not in self.explored and one not in self.failed]
        groups = {one.group for one in rest} - {one.group for one in self.explored[1:]}
        if groups and left > len(groups):
            rest = [one for one in rest if one.group in groups]
        order = self.problem.goal.order
        return max(rest, key=lambda one: order(self._believed(one, DOUBT)), default=None)

    def _finalists(self) -> list[Setting]:
        """The present setting, and the best of the others as far as is known now."""
        order = self.problem.goal.order
        others = [one for one in self.explored if one != self.problem.present]
        ranked = sorted(others, key=lambda one: order(self._believed(one)), reverse=True)
        return [self.problem.present, *ranked[: self.problem.finalists - 1]] if self.problem.finalists else []

    def _measure(self, setting: Setting, stage: str, number: int) -> None:
        for clients in self.problem.clients:
            self.report(self._step(setting, clients))
            measured = self.measure(setting, clients)
            expected = self._expected[setting][clients]
            run = Run(
                setting=setting, clients=clients, stage=stage, round=number, predicted=expected, measured=measured
            )
            self.runs.append(run)

    def _step(self, setting: Setting, clients: int) -> str:
        last = f"; the last one: {self.runs[-1].measured.inferences_per_s:,.0f}/s" if self.runs else ""
        of = self.problem.turns * len(self.problem.clients)
        return f"{len(self.runs) + 1} of at most {of}: {setting}, concurrency {clients}{last}"

    def _refit(self) -> None:
        observed = [Observed(setting=r.setting, clients=r.clients, rate=r.measured.inferences_per_s) for r in self.runs]
        self.costs = fit(observed, self.costs, cores=self.problem.cores, largest=self.problem.largest)
        self._simulated.clear()

    def _simulate(self, setting: Setting) -> Seen:
        if setting not in self._simulated:
            self._simulated[setting] = {
                n: simulate(setting, self.costs, clients=n, cores=self.problem.cores, largest=self.problem.largest)
                for n in self.problem.clients
            }
        return self._simulated[setting]

    def _believed(self, setting: Setting, doubt: float = 0.0) -> Seen:
        """The simulation of a setting, corrected by what was measured."""
        simulated = self._simulate(setting)
        return {n: self._corrected(setting, n, one, doubt) for n, one in simulated.items()}

    def _corrected(self, setting: Setting, clients: int, simulated: Predicted, doubt: float) -> Predicted:
        runs = [run for run in self.runs if run.clients == clients]
        percent = self.problem.goal.percent
        places = [run.setting for run in runs]
        pairs = [(self._simulate(run.setting)[clients], middle([run.measured])) for run in runs]
        rates = [math.log(seen.rate / said.rate) for said, seen in pairs]
        late = [math.log(seen.latency_us[percent] / said.latency_us[percent]) for said, seen in pairs]
        faster, unsure = correction(places, rates, setting)
        slower, _ = correction(places, late, setting)
        factor = math.exp(slower - doubt * unsure)
        return Predicted(
            rate=simulated.rate * math.exp(faster + doubt * unsure),
            latency_us={p: value * factor for p, value in simulated.latency_us.items()},
            mean_batch=simulated.mean_batch,
        )


def middle(runs: Sequence[Measured]) -> Predicted:
    """The medians of repeated runs."""
    latency = {p: statistics.median(getattr(run, f"p{p}_us") for run in runs) for p in (50, 90, 95, 99)}
    batches = [run.mean_batch for run in runs if run.mean_batch is not None]
    return Predicted(
        rate=statistics.median(run.inferences_per_s for run in runs),
        latency_us=latency,
        mean_batch=statistics.median(batches) if batches else 0.0,
    )


def correction(places: Sequence[Setting], logs: Sequence[float], at: Setting) -> tuple[float, float]:
    """What to add to a logarithm, and how unsure that is: a Gaussian process around the mean of what was seen.

    Args:
        places: The settings that were measured; one may be there several times.
        logs: For each, the logarithm of measured over simulated.
        at: The setting that is asked for.
    """
    if not places:
        return 0.0, _SPREAD
    mean = statistics.fmean(logs)
    known, asked = _points(places), _points([at])
    inner = _alike(known, known) + _NOISE**2 * np.eye(len(places))
    across = _alike(asked, known)[0]
    weights = np.linalg.solve(inner, across)
    expected = mean + float(weights @ (np.asarray(logs) - mean))
    return expected, math.sqrt(max(0.0, _SPREAD**2 - float(weights @ across)))


def _points(settings: Sequence[Setting]) -> NDArray[np.float64]:
    """Settings as points: those at a distance of 1 have a good part of their correction in common."""
    return np.array(
        [
            [
                math.log2(one.instances),
                math.log2(max(1, one.threads)),
                math.log2(max(1, one.batch)) / 2,
                math.log2(1 + one.delay_us / 100) / 2,
            ]
            for one in settings
        ]
    )


def _alike(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    distances = ((first[:, None, :] - second[None, :, :]) ** 2).sum(axis=2)
    alike: NDArray[np.float64] = _SPREAD**2 * np.exp(-distances / 2)
    return alike
