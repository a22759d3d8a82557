"""SIGTERM ends an action as an exception does; the messages and exit codes are tested with the command."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

from modelport import _guard


def test_signals_ends_an_action_through_its_cleanup_and_the_old_handler_is_back():
    cleaned = []

    def action() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            cleaned.append(True)

    before = signal.getsignal(signal.SIGTERM)
    assert _guard.guarded(action, program="modelport") == 143
    assert cleaned and signal.getsignal(signal.SIGTERM) is before


def test_an_action_may_run_beside_the_main_thread():
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(_guard.guarded, lambda: None, program="modelport").result() == 0
