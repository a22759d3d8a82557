"""What `tune --write` writes, and what it had better not."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.bench.results import spread
from modelport.bench.tuning.space import Setting
from modelport.commands.tune import Tuned

ONE, TWO = (Setting(instances=count, threads=1, batch=8, delay_us=0) for count in (1, 2))


def tuned(best=TWO, ratios=(1.2, 1.3, 1.4), within_budget=True):
    return Tuned(
        model="net", version=1, wanted="throughput", best=best, present=ONE, ratio=spread(ratios) if ratios else None,
        within_budget=within_budget, lines=(), measurements=9, settings=20, file=Path("t.json"),
    )  # fmt: skip


@pytest.mark.parametrize("where", ["config", "configs/gpu.pbtxt"])
def test_what_is_better_in_every_round_is_written(where):
    assert tuned().against(where) == ""
    assert tuned(ratios=()).against(where) == "", "with one round there is nothing to compare"


@pytest.mark.parametrize("where", ["config", "configs/gpu.pbtxt"])
def test_what_breaks_the_latency_budget_is_not(where):
    assert "latency budget" in tuned(within_budget=False).against(where)


def test_what_is_not_shown_to_be_better_leaves_the_present_configuration_alone():
    assert "no difference" in tuned(ratios=(0.96, 1.08, 1.13)).against("config")
    assert "is the best one" in tuned(best=ONE, ratios=(1, 1, 1)).against("config")
    assert tuned(ratios=(0.96, 1.08, 1.13)).against("configs/gpu.pbtxt") == "", "a file beside it replaces nothing"
