"""The first signal asks for the end, the second hurries it."""

from __future__ import annotations

import signal

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
