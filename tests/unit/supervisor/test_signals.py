"""The first signal asks for the end, the second hurries it."""

from __future__ import annotations

import signal
import sys

import pytest

from modelport._guard import guarded
from modelport.supervisor.signals import Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_asks_and_the_second_interrupts(number):
    before = signal.getsignal(number)
    with Signals() as signals:
        assert not signals.stop.is_set()
        signal.raise_signal(number)
        assert signals.stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_a_start_is_interrupted_by_the_first():
    with Signals() as signals:
        with pytest.raises(KeyboardInterrupt), signals.interrupting():
            signal.raise_signal(signal.SIGTERM)
        assert signals.stop.is_set()
        with pytest.raises(KeyboardInterrupt), signals.interrupting():
            raise AssertionError("a start after a signal")


def test_what_nohup_ignores_stays_ignored():
    """By the block, and by the program around it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            signal.raise_signal(signal.SIGHUP)
            assert not signals.stop.is_set()
        assert guarded(lambda: signal.raise_signal(signal.SIGHUP), program="p") == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert guarded(lambda: signal.raise_signal(signal.SIGHUP), program="p") == 129, "negative control"


def wait_and_be_signalled(signals, moment):
    """Wait a little; the signal comes at the `moment`-th line of what runs meanwhile. How many lines there were."""
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        lines += 1
        if lines == moment:
            signal.raise_signal(signal.SIGTERM)
        return trace

    sys.settrace(trace)
    try:
        signals.stop.wait(0.01)
    finally:
        sys.settrace(None)
    return lines


def test_a_signal_may_come_at_any_moment_of_the_wait():
    """Also while the wait holds what its end is told through; an `Event` locks up then, and the service never ends."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it hangs"))
    signal.alarm(20)
    try:
        moment, lines = 1, 1
        while moment <= lines:
            with Signals() as signals:
                lines = wait_and_be_signalled(signals, moment)
                assert lines < moment or signals.stop.wait(20)
            moment += 1
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert moment > 2
