"""Waits double, end at a most, and begin anew after success; a crash loop is told from a death after a long life."""

from __future__ import annotations

from modelport.supervisor.backoff import Backoff, Deaths


def test_waits_double_up_to_a_most_and_end():
    backoff = Backoff(first_s=0.5, most_s=3, limit=6)
    assert [backoff.failed() for _ in range(6)] == [0.5, 1, 2, 3, 3, None]
    assert backoff.failed() is None


def test_success_begins_anew():
    backoff = Backoff(first_s=1, most_s=9, limit=3)
    assert backoff.failed() == 1 and backoff.failed() == 2
    backoff.reset()
    assert backoff.failures == 0 and backoff.failed() == 1


def test_five_deaths_soon_after_the_start_are_a_crash_loop():
    deaths = Deaths()
    assert [deaths.died(lived_s=2) for _ in range(5)] == [0.5, 1, 2, 4, None]
    assert deaths.in_a_row == 5


def test_deaths_after_a_long_life_are_none():
    deaths = Deaths(young_s=60)
    assert [deaths.died(lived_s=61) for _ in range(20)] == [0.5] * 20
    deaths.died(lived_s=59)
    assert deaths.died(lived_s=60) == 0.5, "the row ends with a long life"
