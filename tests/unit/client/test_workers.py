"""Work is done in threads that are used again; who waits gets what it returns or raises, or leaves in time."""

from __future__ import annotations

import threading

import pytest

from modelport.client import _workers
from modelport.client._workers import Workers


def test_one_thread_does_what_comes_one_after_the_other():
    workers = Workers()
    assert len({workers.run(threading.get_ident, 5.0) for _ in range(20)} - {threading.get_ident()}) == 1


def test_an_error_is_raised_where_the_work_was_asked_for_and_the_thread_goes_on():
    workers = Workers()
    with pytest.raises(ZeroDivisionError):
        workers.run(lambda: 1 / 0, 5.0)
    assert workers.run(lambda: 3, 5.0) == 3


def test_work_that_takes_too_long_is_left_and_others_are_done_meanwhile():
    workers, gate, done = Workers(), threading.Event(), threading.Event()
    with pytest.raises(TimeoutError):
        workers.run(lambda: (gate.wait(5.0), done.set()), 0.01)
    assert workers.run(lambda: 4, 5.0) == 4
    gate.set()
    assert done.wait(5.0)


def test_closing_ends_the_threads_that_wait_at_once_and_those_at_work_after_it():
    workers, gate, began = Workers(), threading.Event(), []
    with pytest.raises(TimeoutError):
        workers.run(lambda: (began.append(threading.current_thread()), gate.wait(5.0)), 0.1)
    [busy] = began
    spare = workers.run(threading.current_thread, 5.0)
    workers.close()
    spare.join(5.0)
    assert not spare.is_alive() and busy.is_alive()
    gate.set()
    busy.join(5.0)
    assert not busy.is_alive()


def test_a_thread_without_work_ends(monkeypatch):
    monkeypatch.setattr(_workers, "IDLE_S", 0.01)
    workers = Workers()
    thread = workers.run(threading.current_thread, 5.0)
    thread.join(5.0)
    assert not thread.is_alive()
    assert workers.run(threading.current_thread, 5.0) is not thread
