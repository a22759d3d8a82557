"""Fit what a request and a run cost beside the model itself, from a few measured rates."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from modelport.bench.tuning.simulate import Costs, simulate
from modelport.bench.tuning.space import Setting

USUAL = Costs(run_us={}, request_us=120.0, batch_us=20.0, wait_us=60.0)
_FITTED = ("request_us", "batch_us", "wait_us")
_FACTORS = (1.7, 1.2)  # by which a cost is tried larger and smaller, one after the other
_BELIEF = 0.02  # how much a cost that is not the usual one weighs against a rate that is not met
_REQUESTS = 150


@dataclass(frozen=True, kw_only=True)
class Observed:
    """A measured rate.

    Attributes:
        setting: How the model was served.
        clients: How many asked.
        rate: Requests answered each second.
    """

    setting: Setting
    clients: int
    rate: float


def fit(observed: Sequence[Observed], start: Costs, *, cores: int, largest: int) -> Costs:
    """The costs with which a simulation comes closest to the measured rates, and that are not far from the usual ones.

    Args:
        observed: The rates; with none the start is the answer.
        start: Where to begin; its times of runs stay.
        cores: Cores that all of it shares.
        largest: The model's `max_batch_size`.
    """
    best, least = start, _loss(observed, start, cores, largest)
    for factor in _FACTORS:
        for name in _FITTED:
            for step in (factor, 1 / factor):
                while True:
                    tried = dataclasses.replace(best, **{name: getattr(best, name) * step})
                    loss = _loss(observed, tried, cores, largest)
                    if loss >= least - 1e-9:
                        break
                    best, least = tried, loss
    return best


def _loss(observed: Sequence[Observed], costs: Costs, cores: int, largest: int) -> float:
    missed = 0.0
    for one in observed:
        seen = simulate(one.setting, costs, clients=one.clients, cores=cores, largest=largest, requests=_REQUESTS)
        missed += math.log(seen.rate / one.rate) ** 2
    unusual = sum(math.log(getattr(costs, name) / getattr(USUAL, name)) ** 2 for name in _FITTED)
    return missed + _BELIEF * unusual if observed else 0.0
