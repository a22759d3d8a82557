"""Servers are measured in turns, and ratios compare what was measured in the same round."""

from __future__ import annotations

import pytest

from modelport.bench import interleave
from modelport.bench.interleave import Run, Target
from modelport.bench.requests import Request
from modelport.bench.wrk import Load


def run(server, number, rate, clients=1):
    load = Load(clients=clients, seconds=1.0, requests=int(rate), requests_per_s=rate, p50_ms=1.0, p99_ms=2.0)
    return Run(server=server, round=number, load=load)


def test_ratios_are_taken_within_each_round():
    """A machine that was twice as slow in one round does not change them."""
    runs = [run("a", 0, 200), run("b", 0, 100), run("a", 1, 90), run("b", 1, 50), run("a", 0, 7, clients=8)]
    ratio = interleave.ratio(runs, "a", "b", 1)
    assert (ratio.low, ratio.high) == (pytest.approx(1.8), pytest.approx(2.0))
    assert interleave.rates(runs, "a", 8) == [7]


def test_every_server_has_its_turn_in_every_round(echo, require):
    require("wrk")
    target, seen = Target(url=echo.url, request=Request(path="/echo", body=b"x")), []
    runs = interleave.measure({"a": target, "b": target}, clients=[1], seconds=1, rounds=2, report=seen.append)
    assert [(r.server, r.round) for r in runs] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert seen == runs
