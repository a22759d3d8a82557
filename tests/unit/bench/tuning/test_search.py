"""The search finds the best setting with a tenth of a sweep's measurements; the machine is a simulation with flaws."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from modelport.bench.perf_output import Measured
from modelport.bench.tuning import fit, space, tuner
from modelport.bench.tuning.goal import LATENCY, Goal
from modelport.bench.tuning.search import Problem, Search, correction
from modelport.bench.tuning.simulate import Costs, Predicted, simulate
from modelport.bench.tuning.space import Setting
from modelport.errors import ServerError

RUN_US = {1: {1: 100.0, 4: 250.0, 32: 1500.0}, 2: {1: 90.0, 4: 170.0, 32: 900.0}}
SETTINGS = space.space(largest=32, cores=2, threads=True)
SMALL = space.space(largest=4, cores=2, threads=True, most_delay_us=100)
PRESENT = Setting(instances=1, threads=2, batch=1, delay_us=0)


class Machine:
    """Other costs than the search believes at first, and groups of settings that are slower than it can know."""

    def __init__(self, slow, costs=None, noise=0.0):
        self.slow, self.noise = slow, noise
        self.costs = costs or Costs(run_us=RUN_US, request_us=90.0, batch_us=45.0, wait_us=40.0, jitter=0.3)
        self.random, self.asked = random.Random(1), 0
        self.known = {}

    def seen(self, setting, clients):
        if (setting, clients) not in self.known:
            one = simulate(setting, self.costs, clients=clients, cores=2, largest=32)
            factor = self.slow.get(setting.group, 1.0)
            late = {percent: value / factor for percent, value in one.latency_us.items()}
            self.known[setting, clients] = replace(one, rate=one.rate * factor, latency_us=late)
        return self.known[setting, clients]

    def measure(self, setting, clients):
        self.asked += 1
        one, luck = self.seen(setting, clients), self.random.lognormvariate(0, self.noise)
        return measured(replace(one, rate=one.rate * luck))


def measured(one):
    late = {f"p{percent}_us": value for percent, value in one.latency_us.items()}
    zeros = dict.fromkeys(("mean_us", "client_us", "network_us", "queue_us", "compute_us"), 0.0)
    return Measured(inferences_per_s=one.rate, requests=100, mean_batch=one.mean_batch, **late, **zeros)


def problem(**changes):
    clients = changes.get("clients", (32,))
    known = {
        "settings": SETTINGS,
        "present": PRESENT,
        "clients": clients,
        "goal": Goal(),
        "cores": 2,
        "largest": 32,
        "costs": replace(fit.USUAL, run_us=RUN_US),
        "measurements": tuner.default_measurements(len(SETTINGS), len(clients), 3),
        "repeats": 3,
    }
    return Problem(**{**known, **changes})


def test_a_tenth_of_a_sweep_finds_nearly_the_best():
    machine, goal = Machine({(2, 1): 0.8}, noise=0.01), Goal()
    search = Search(problem=problem(), measure=machine.measure, report=lambda _: None)
    best = search.run()
    assert machine.asked == len(search.runs) <= 0.1 * len(SETTINGS) * 3
    values = {one: goal.value({32: machine.seen(one, 32)}) for one in SETTINGS}
    assert values[best] >= 0.97 * max(values.values())
    assert values[best] > 1.1 * values[PRESENT]
    assert {run.stage for run in search.runs} == {"explore", "final"}
    assert len(search.ratios(best)) == 3


def test_a_budget_rules_out_what_is_too_slow():
    machine, delayed = Machine({}), Setting(instances=1, threads=1, batch=32, delay_us=2000)
    slow, few = machine.seen(delayed, 1), {"clients": (1,), "settings": SMALL, "present": delayed, "measurements": 4}
    goal = Goal(budget_us=slow.latency_us[99] / 2)
    search = Search(problem=problem(**few, goal=goal), measure=machine.measure, report=lambda _: None)
    best = search.run()
    assert best != delayed and goal.keeps(search.seen(best))
    never = Goal(budget_us=1.0)
    search = Search(problem=problem(**few, goal=never), measure=machine.measure, report=lambda _: None)
    best = search.run()
    assert not never.keeps(search.seen(best)) and never.worst_us(search.seen(best)) < slow.latency_us[99]


def test_the_present_setting_stays_where_nothing_is_worth_a_change():
    machine = Machine({})
    top = max(SMALL, key=lambda one: machine.seen(one, 32).rate)
    search = Search(problem=problem(settings=SMALL, present=top), measure=machine.measure, report=lambda _: None)
    assert search.run() == top


def test_few_measurements_leave_the_rounds_out_and_a_small_space_is_measured_whole():
    machine = Machine({})
    few = problem(settings=SMALL, measurements=4, goal=Goal(objective=LATENCY))
    search = Search(problem=few, measure=machine.measure, report=lambda _: None)
    search.run()
    assert [run.stage for run in search.runs] == ["explore"] * 4 and search.ratios(PRESENT) == []
    three = space.space(largest=1, cores=2, threads=True)
    search = Search(problem=problem(settings=three, repeats=1), measure=machine.measure, report=lambda _: None)
    search.run()
    assert set(search.explored) == set(three)


def test_a_correction_is_shared_by_settings_that_are_alike():
    near, far = (Setting(instances=1, threads=1, batch=batch, delay_us=0) for batch in (8, 4))
    other = Setting(instances=8, threads=1, batch=4, delay_us=0)
    seen = [near, other], [math.log(0.5), math.log(1.0)]
    alike, unsure = correction(*seen, far)
    there, sure = correction(*seen, near)
    assert there == pytest.approx(math.log(0.5), abs=0.05)
    assert there < alike < math.log(0.75)
    assert sure < unsure
    assert correction([], [], near)[0] == 0.0


def test_several_numbers_of_clients_count_alike():
    goal = Goal(budget_us=100, percent=50)
    seen = {n: Predicted(rate=rate, latency_us={50: late}, mean_batch=1) for n, rate, late in ((1, 4, 50), (8, 9, 120))}
    assert goal.value(seen) == pytest.approx(6)
    assert not goal.keeps(seen)
    assert Goal(objective=LATENCY, percent=50).value(seen) == pytest.approx(1e6 / math.sqrt(50 * 120))
    assert goal.words((1, 8)) == "throughput at 1, 8 clients, p50 within 0.1 ms"


def test_a_setting_that_cannot_be_served_is_left_out_and_the_present_one_must_be():
    machine = Machine({})

    def measure(setting, clients):
        if setting.instances == 2:
            raise ServerError("it does not load", why="no memory")
        return machine.measure(setting, clients)

    search = Search(problem=problem(settings=SMALL), measure=measure, report=lambda _: None)
    assert search.run().instances == 1
    assert next(iter(search.failed.values())) == "it does not load: no memory"
    two = Setting(instances=2, threads=1, batch=1, delay_us=0)
    with pytest.raises(ServerError):
        Search(problem=problem(settings=SMALL, present=two), measure=measure, report=lambda _: None).run()
