"""What is sent again, how often, and after which wait."""

from __future__ import annotations

import time

import pytest

from modelport.client._policy import WAIT_MAX_S, Deadline, Retries
from modelport.errors import ClientError, DeadlineError, RemoteError, RequestError, UnreachableError


def failure(*, retryable: bool = True, retry_after_s: float | None = None) -> ClientError:
    error = RemoteError("it failed", why="busy", status=503)
    error.retryable = retryable
    error.retry_after_s = retry_after_s
    return error


def test_a_deadline_runs_down_and_stays_at_zero():
    deadline = Deadline(0.02)
    assert 0 < deadline.remaining_s() <= 0.02
    time.sleep(0.03)
    assert deadline.remaining_s() == 0


@pytest.mark.parametrize("kind", [DeadlineError, RequestError, RemoteError, UnreachableError])
def test_no_error_is_retried_unless_it_was_marked(kind):
    assert Retries(3, Deadline(10)).wait_s(kind("x")) is None


def test_waits_double_have_jitter_and_an_upper_bound():
    for expected in (0.1, 0.2, 0.4, 0.8, 1.6, WAIT_MAX_S, WAIT_MAX_S):
        waits = set()
        for _ in range(50):
            retries = Retries(10, Deadline(1000))
            for _ in range({0.1: 1, 0.2: 2, 0.4: 3, 0.8: 4, 1.6: 5}.get(expected, 7)):
                wait_s = retries.wait_s(failure())
            assert wait_s is not None and expected / 2 <= wait_s <= expected
            waits.add(wait_s)
        assert len(waits) > 40, "clients that failed together would come back together"


def test_retries_end_and_the_error_says_how_often():
    retries = Retries(2, Deadline(100))
    assert [retries.wait_s(failure()) is None for _ in range(2)] == [False, False]
    last = failure()
    assert retries.wait_s(last) is None
    assert last.why == "busy; this was the last of 3 tries"


def test_zero_retries_sends_once():
    error = failure()
    assert Retries(0, Deadline(100)).wait_s(error) is None
    assert error.why == "busy"


def test_retry_after_is_the_least_wait():
    for _ in range(50):
        wait_s = Retries(1, Deadline(100)).wait_s(failure(retry_after_s=3))
        assert wait_s is not None and 3 <= wait_s <= 3.05


def test_a_wait_that_does_not_fit_the_deadline_is_not_begun():
    error = failure(retry_after_s=30)
    assert Retries(3, Deadline(2)).wait_s(error) is None
    assert "asks to wait 30 s" in error.why
    assert Retries(3, Deadline(0.01)).wait_s(failure()) is None
