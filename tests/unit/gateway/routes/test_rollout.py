"""Whole rollouts against a simulated service: good canaries go through, bad ones come back, and seldom otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from modelport.errors import UsageError
from modelport.gateway.routes import rollout as rollouts
from modelport.gateway.routes.judge import FALSE_ALARM, Limits
from modelport.gateway.routes.rollout import LEFT, PROMOTED, TAKEN_BACK, UNDECIDED, Replay
from modelport.gateway.routes.state import Rollout
from modelport.gateway.routes.watch import Counts, Did, Watch

RUNS = 200


class Simulated:
    """A service with `rate` calls a second, of which the versions fail and delay their shares.

    Times have a deviation as large as their mean of 1 ms; now and then everything stalls.
    """

    def __init__(self, seed, *, stable=0.01, canary=0.01, slower=1.0, rate=200.0, replay=None, at=None):
        self.random = np.random.default_rng(seed)
        self.failing = {"canary": canary, "stable": stable}
        self.slower, self.rate, self.replayed, self.at = slower, rate, replay or Replay(), at or {}
        self.clock_s, self.percent, self.shares = 0.0, 0.0, []
        self.done = dict.fromkeys(self.failing, (0, 0, 0))
        self.kept, self.history, self.ends = [], [], []

    def share(self, percent):
        self.percent = percent
        self.shares.append(percent)

    def counts(self):
        found = {name: Did(answered=a, answered_us=us, failed=f) for name, (a, us, f) in self.done.items()}
        return Counts(**found, **self.at.get(len(self.kept), {}))

    def replay(self):
        return self.replayed

    def seconds(self):
        return self.clock_s

    def wait(self, seconds):
        self.clock_s += seconds
        stall = 3.0 if self.random.random() < 0.1 else 1.0
        calls = int(self.random.poisson(self.rate * seconds))
        of_canary = int(self.random.binomial(calls, self.percent / 100))
        for name, count in (("canary", of_canary), ("stable", calls - of_canary)):
            failed = int(self.random.binomial(count, self.failing[name]))
            slower = self.slower if name == "canary" else 1.0
            took_us = self.random.gamma(max(count - failed, 1e-9)) * 1e3 * stall * slower
            answered, us, before = self.done[name]
            self.done[name] = (answered + count - failed, us + int(took_us), before + failed)

    def promote(self):
        self.ends.append(PROMOTED)

    def take_back(self):
        self.ends.append(TAKEN_BACK)

    def keep(self, rollout):
        self.kept.append(rollout)

    def tell(self, entry):
        self.history.append(entry)


def begun(**limits):
    return Rollout(
        model="net",
        canary=2,
        stable=1,
        canary_target="canary",
        stable_target="1",
        limits=Limits(**limits),
        started="2026-01-02T03:04:05+00:00",
    )


def run(world, rollout=None):
    return rollouts.run(world, rollout or begun(), lambda _: None)


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.05])
def test_an_equal_canary_is_promoted_and_seldom_taken_back(rate):
    """200 seeded rollouts with an error rate of 0, 1 or 5 %: no more false alarms than the stated bound."""
    results = [run(Simulated(seed, stable=rate, canary=rate, rate=1000.0)).result for seed in range(RUNS)]
    assert results.count(TAKEN_BACK) <= FALSE_ALARM * RUNS
    assert results.count(PROMOTED) == RUNS - results.count(TAKEN_BACK)


def test_a_canary_with_ten_percent_more_errors_is_taken_back_at_the_first_steps():
    outcomes = [run(Simulated(seed, canary=0.11)) for seed in range(RUNS)]
    assert [one.result for one in outcomes] == [TAKEN_BACK] * RUNS
    assert max(one.share for one in outcomes) <= 10
    assert "failed, of stable's" in outcomes[0].why and "worse" in outcomes[0].why


def test_a_canary_that_takes_twice_as_long_is_taken_back():
    outcomes = [run(Simulated(seed, slower=2.0)) for seed in range(50)]
    assert {one.result for one in outcomes} == {TAKEN_BACK} and "latency" in outcomes[0].why


def test_a_canary_at_the_limit_of_what_is_allowed_is_seldom_called_worse():
    """The hardest case for the bound: a rise of exactly what is allowed, looked at a hundred times."""
    results = [run(Simulated(seed, canary=0.02), begun(give_up_s=600.0)).result for seed in range(RUNS)]
    assert results.count(TAKEN_BACK) <= FALSE_ALARM * RUNS
    assert results.count(PROMOTED) <= FALSE_ALARM * RUNS


def test_the_steps_are_taken_in_order_held_and_stored_with_their_evidence():
    world = Simulated(0, replay=Replay(requests=20, differing=1, classes=True))
    assert run(world, begun(steps=(5.0, 20.0, 100.0))).result == PROMOTED
    assert world.shares == [5.0, 20.0] and world.clock_s >= 120.0 and world.ends == [PROMOTED]
    assert [entry["event"] for entry in world.history] == ["begun", "step", "step", "promoted"]
    assert world.kept[-1] is None and [kept.step for kept in world.kept if kept][-1] == 2
    findings = {one["criterion"]: one for one in world.history[1]["findings"]}
    assert findings["errors"]["canary"] >= 200 and findings["errors"]["high"] <= 0.01 == findings["errors"]["threshold"]
    assert findings["latency"]["canary"] >= 10 and findings["latency"]["verdict"] == "fine"
    assert (findings["disagreement"]["value"], findings["disagreement"]["threshold"]) == (0.05, 0.1)


@pytest.mark.parametrize(
    ("replay", "limits", "result"),
    [
        (Replay(requests=40, differing=20, classes=True), {}, TAKEN_BACK),
        (Replay(requests=40, differing=40), {}, PROMOTED),
        (Replay(requests=40, differing=40), {"max_disagreement": 0.5}, TAKEN_BACK),
    ],
)
def test_other_answers_are_judged_where_they_are_classes_or_that_is_asked_for(replay, limits, result):
    assert run(Simulated(0, replay=replay), begun(**limits)).result == result


def test_what_is_broken_comes_back_at_once_and_what_somebody_changed_is_left_alone():
    world = Simulated(0, at={3: {"broken": "it is loaded no more"}})
    outcome = run(world)
    assert (outcome.result, outcome.why, world.ends) == (TAKEN_BACK, "it is loaded no more", [TAKEN_BACK])
    world = Simulated(0, at={3: {"changed": "the route is another one"}})
    assert run(world).result == LEFT and world.ends == [] and world.kept[-1] is None


def test_without_a_decision_the_route_stays_and_the_rollout_can_be_taken_up_again():
    world = Simulated(0, rate=1.0)
    outcome = run(world, begun(give_up_s=300.0))
    assert (outcome.result, outcome.share, world.ends) == (UNDECIDED, 5.0, []) and world.clock_s >= 300.0
    again = Simulated(1)
    assert run(again, world.kept[-1].after(step=2)).result == PROMOTED
    assert again.shares == [25.0, 50.0] and again.history[0]["event"] == "taken_up"
    assert again.history[-1]["looks"] >= 50 + 19  # those of the first part count: they spent of the same budget


def test_windows_without_answers_become_one_with_the_next():
    def at(answered, us, failed=0):
        return Did(answered=answered, answered_us=us, failed=failed)

    watch = Watch(Counts(canary=at(10, 100), stable=at(100, 1000, 5)))
    watch.add(Counts(canary=at(13, 190), stable=at(110, 1100, 5)))
    assert watch.ratios == () and (watch.canary.requests, watch.stable.requests) == (3, 10)
    watch.add(Counts(canary=at(15, 250, 1), stable=at(120, 1200, 6)))
    assert (watch.canary.requests, watch.canary.failed, watch.stable.failed) == (6, 1, 1)
    assert watch.ratios == (3.0,)


def test_all_limits_that_cannot_be_are_named_at_once():
    with pytest.raises(UsageError) as caught:
        Limits(steps=(10, 5), hold_s=0, min_requests=0, max_error_rise=1, max_latency_ratio=1, max_disagreement=2)
    for word in ("steps", "hold", "min-requests", "max-error-rise", "max-latency-ratio", "max-disagreement"):
        assert f"--{word}" in caught.value.what
    assert Limits(steps=(100.0,)).shares == ()
