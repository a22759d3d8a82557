"""Callers in threads: each calls as often as it can, what they need is told, and what fails is raised."""

from __future__ import annotations

import os
import threading
import time

import pytest

from modelport.bench import callers, usage


def test_every_thread_calls_its_own_function():
    seen = {name: set() for name in "ab"}
    calls = [lambda name=name: (seen[name].add(threading.get_ident()), time.sleep(0.002)) for name in "ab"]
    load, cost = callers.drive(calls, seconds=0.1)
    assert load.clients == 2 and load.requests > 4 and cost > 0
    assert load.requests_per_s == pytest.approx(load.requests / load.seconds)
    assert 2.0 <= load.p50_ms <= load.p99_ms
    assert len(seen["a"] | seen["b"]) == 2 and not seen["a"] & seen["b"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_a_call_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        callers.drive([lambda: 1 / 0], seconds=0.1)


def test_processor_time_grows_with_work():
    """Sleeping takes none, counting does; the whole process is counted once."""
    before, tree = usage.own_s(), usage.tree_s(os.getpid())
    end = time.thread_time() + 0.05
    while time.thread_time() < end:
        pass
    assert usage.own_s() - before >= 0.05
    assert usage.tree_s(os.getpid()) - tree >= 0.03  # told in steps of 10 ms
