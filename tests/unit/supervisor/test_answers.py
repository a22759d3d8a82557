"""When a version is asked, and what its answers are worth."""

from __future__ import annotations

import pytest

from modelport.errors import (
    DeadlineError,
    ManifestError,
    NotFiniteError,
    RemoteError,
    RequestError,
    UnavailableError,
    UnreachableError,
    VerificationError,
)
from modelport.supervisor.answers import BUSY, FAILED, LATE, OK, UNPROVED, WRONG, Track, kind_of


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (VerificationError("x"), WRONG),
        (NotFiniteError("x"), WRONG),
        (DeadlineError("x"), LATE),
        (UnavailableError("x", status=503), BUSY),
        (UnavailableError("x", status=429), BUSY),
        (RemoteError("x", status=500), FAILED),
        (UnreachableError("x"), FAILED),
        (RequestError("x", status=400), FAILED),
        (ManifestError("x"), UNPROVED),
    ],
)
def test_each_error_is_a_kind_of_result(error, kind):
    assert kind_of(error) == kind


def record(track, kind, now, *, latency_s=0.01, serving=True, versions=1):
    return track.record(kind, "why", latency_s=latency_s, now=now, serving=serving, versions=versions)


@pytest.fixture
def track():
    return Track(now=100.0, interval_s=5.0, deadline_s=5.0)


def test_a_new_version_is_asked_at_once_and_then_at_its_interval(track):
    assert track.due(100.0)
    record(track, OK, 100.1)
    assert not track.due(105.0) and track.due(105.1)


def test_nobody_is_asked_twice_at_once(track):
    track.running = True
    assert not track.due(1000.0)


@pytest.mark.parametrize(
    ("options", "wait_s"),
    [
        ({}, 5),
        ({"serving": False}, 30),
        ({"latency_s": 0.2}, 5),
        ({"latency_s": 1.0}, 20),
        ({"latency_s": 9.0}, 60),
        ({"versions": 1000}, 50),
    ],
    ids=["serving", "loaded only", "fast", "slow", "very slow", "crowd"],
)
def test_asking_costs_little_whatever_the_model_and_their_number(track, options, wait_s):
    record(track, OK, 100.0, **options)
    assert track.next_at == pytest.approx(100.0 + wait_s)


@pytest.mark.parametrize(("kind", "wait_s"), [(FAILED, 1), (LATE, 1), (WRONG, 5), (BUSY, 1)])
def test_no_answer_is_asked_for_again_soon(track, kind, wait_s):
    record(track, kind, 100.0)
    assert track.next_at == 100.0 + wait_s


def test_an_answer_counts_for_three_intervals_and_a_deadline(track):
    result = record(track, OK, 100.0)
    assert result.good(120.0) and not result.good(120.1)


@pytest.mark.parametrize(("kind", "until"), [(LATE, 120), (BUSY, 220)])
def test_a_late_or_refused_request_does_not_outweigh_a_good_answer_at_once(track, kind, until):
    """Refusals count for two minutes, so that readiness does not flap while a model has too much to do."""
    record(track, OK, 100.0)
    result = record(track, kind, 110.0)
    assert result.good(until - 1) and not result.good(until + 1)


def test_a_version_that_refuses_everything_is_not_ready_in_the_end(track):
    """However often it refuses; and one that never answered right is not ready at all."""
    assert not record(track, BUSY, 100.0).good(100.0)
    record(track, OK, 101.0)
    results = [record(track, BUSY, 102.0 + second) for second in range(200)]
    assert [result.good(result.at) for result in results].count(True) == 120


@pytest.mark.parametrize("kind", [WRONG, FAILED])
def test_a_wrong_answer_or_an_error_does(track, kind):
    record(track, OK, 100.0)
    assert not record(track, kind, 101.0).good(101.0)


def test_a_version_without_golden_answers_is_not_blamed(track):
    assert record(track, UNPROVED, 100.0).good(1e9)


def test_results_of_a_kind_are_counted_in_a_row(track):
    record(track, OK, 100.0)
    record(track, LATE, 101.0)
    result = record(track, LATE, 103.0)
    assert (result.in_a_row, result.since, result.last_ok) == (2, 101.0, 100.0)
    assert record(track, OK, 104.0).in_a_row == 1
