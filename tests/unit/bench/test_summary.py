"""Medians over the rounds, and figures that say when they cannot be relied on."""

from __future__ import annotations

import dataclasses

import pytest

from modelport.bench import summary


def test_a_point_is_the_median_of_its_rounds(result):
    (one, eight) = summary.points(result("net", {8: [300.0, 500.0, 310.0], 1: [100.0, 101.0, 102.0]}))
    assert (one.load.value, one.rate.median, one.rate.low, one.rate.high, one.notes) == (1, 101, 100, 102, ())
    assert one.p50_ms == pytest.approx(1000 / 101)
    assert (eight.rate.median, eight.rounds, eight.notes) == (310, 3, ("unstable",))


@pytest.mark.parametrize(
    ("requests", "known"), [(99, {50}), (100, {50, 90}), (200, {50, 90, 95}), (1000, {50, 90, 95, 99})]
)
def test_a_percentile_needs_requests_beyond_it(result, requests, known):
    (point,) = summary.points(result("net", {1: [100.0]}, requests=requests))
    assert {n for n in (50, 90, 95, 99) if getattr(point, f"p{n}_ms") is not None} == known


def test_a_rate_that_was_not_reached_is_told(result):
    (point,) = summary.points(result("net", {500: [100.0]}, kind="request_rate", delayed_percent=3.0))
    assert point.notes == ("rate not reached",)


def test_the_table_has_a_cell_for_each_column(result):
    for fields in ({}, {"mean_batch": None}):
        points = summary.points(result("net", {1: [100.0, 101.0], 2: [50.0, 51.0]}, **fields))
        assert {len(summary.cells(point)) for point in points} == {len(summary.columns(points))}
    assert summary.columns(points)[0] == "concurrency"
    assert summary.cells(points[0])[1:3] == ("100", "1%")
    assert summary.cells(summary.points(result("net", {1: [100.0]}))[0])[2] == "", "one round has no range"


@pytest.mark.parametrize(("value", "words"), [(0.0421, "0.042"), (0.421, "0.42"), (42.13, "42.1"), (4213.4, "4213")])
def test_times_take_five_letters_at_most(value, words):
    assert summary.time(value) == words


def test_what_cannot_be_relied_on_is_told_in_a_line(result):
    found = result("net", {8: [300.0, 500.0, 310.0], 1: [100.0, 101.0, 102.0], 2: [1.0, 9.0, 3.0]})
    assert summary.warnings(found) == ["Unstable at 2, 8."]
    stopped = dataclasses.replace(found, settings={"stopped": "after 2 of 3 rounds"})
    assert summary.warnings(stopped)[1] == "Stopped after 2 of 3 rounds."
