"""A version that hangs is told from one that works, one that waits its turn, and one that fails."""

from __future__ import annotations

import pytest

from modelport.supervisor.answers import FAILED, LATE, OK, Track
from modelport.supervisor.hangs import WORKING_S, Hangs

VERSION = ("m", 1)


class Case:
    """A version whose golden requests end one after another, each 6 s after the one before."""

    def __init__(self):
        self.hangs, self.track, self.now = Hangs(), Track(now=0.0, interval_s=5, deadline_s=5), 0.0
        self.record(OK)

    def record(self, kind, reason=""):
        self.now += 6
        return self.track.record(kind, reason, latency_s=5, now=self.now, serving=True, versions=1)

    def verdict(self, kind, *, reason="", cpu_s=0.0, executions=0):
        result = self.record(kind, reason)
        return self.hangs.verdict(VERSION, result, cpu_s=cpu_s, executions=lambda: executions, now=self.now)


@pytest.fixture
def case():
    return Case()


def test_three_deadlines_without_work_are_a_hang(case):
    assert [bool(case.verdict(LATE)) for _ in range(3)] == [False, False, True]


def test_a_version_that_gets_something_done_does_not_hang(case):
    """Many requests wait; each golden one comes too late."""
    assert not any(case.verdict(LATE, executions=n) for n in range(50))


def test_a_version_that_computes_may_do_so_for_long_and_not_for_ever(case):
    verdicts = [(case.now + 6, case.verdict(LATE, cpu_s=case.now)) for _ in range(40)]
    first = next(moment for moment, why in verdicts if why)
    assert WORKING_S <= first - 12 < WORKING_S + 7


def test_one_good_answer_between_begins_anew(case):
    case.verdict(LATE), case.verdict(LATE)
    case.record(OK)
    case.hangs.forget(VERSION)
    assert [bool(case.verdict(LATE)) for _ in range(3)] == [False, False, True]


def test_a_process_that_does_not_answer_the_server_is_lost_at_the_second_time(case):
    said = "failed with status 500: Stub process 'm_0_0' is not healthy."
    assert not case.verdict(FAILED, reason=said) and case.verdict(FAILED, reason=said)


def test_a_version_that_was_good_and_fails_three_times_is_loaded_anew(case):
    """Such as one whose GPU context is broken."""
    assert [bool(case.verdict(FAILED, reason="CUDA error")) for _ in range(3)] == [False, False, True]


def test_a_version_that_never_answered_is_not():
    case = Case()
    case.track.result = None
    assert not any(case.verdict(FAILED, reason="bad") for _ in range(9))
