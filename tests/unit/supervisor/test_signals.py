"""The first signal asks for the end, the second hurries it."""

from __future__ import annotations

import signal

import pytest

from modelport.supervisor.signals import Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
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
