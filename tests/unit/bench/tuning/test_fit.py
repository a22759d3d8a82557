"""Costs are found from rates."""

from __future__ import annotations

import dataclasses

import pytest

from modelport.bench.tuning import fit
from modelport.bench.tuning.fit import Observed
from modelport.bench.tuning.simulate import Costs, simulate
from modelport.bench.tuning.space import Setting

TRUE = Costs(run_us={1: {1: 100.0, 32: 1600.0}}, request_us=300.0, batch_us=15.0, wait_us=90.0)


def rate(costs, setting, clients):
    return simulate(setting, costs, clients=clients, cores=2, largest=32, requests=1000).rate


def test_a_setting_that_was_not_measured_is_predicted_from_others():
    measured = [
        (Setting(instances=1, threads=1, batch=32, delay_us=0), 1),
        (Setting(instances=1, threads=1, batch=32, delay_us=0), 32),
        (Setting(instances=2, threads=1, batch=1, delay_us=0), 32),
    ]
    observed = [Observed(setting=s, clients=n, rate=rate(TRUE, s, n)) for s, n in measured]
    start = dataclasses.replace(fit.USUAL, run_us=TRUE.run_us)
    found = fit.fit(observed, start, cores=2, largest=32)
    new = Setting(instances=2, threads=1, batch=4, delay_us=0)
    assert abs(rate(start, new, 32) / rate(TRUE, new, 32) - 1) > 0.3
    assert rate(found, new, 32) == pytest.approx(rate(TRUE, new, 32), rel=0.08)
    assert found.request_us == pytest.approx(TRUE.request_us, rel=0.25)


def test_without_measurements_the_costs_stay():
    start = dataclasses.replace(fit.USUAL, run_us=TRUE.run_us)
    assert fit.fit([], start, cores=2, largest=32) == start
