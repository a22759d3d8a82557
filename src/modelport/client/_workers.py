"""Threads that wait for answers in their callers' place, so that a caller can leave before the answer comes.

gRPC's own futures do that as well, but start a thread for each call that finds no other one on its way.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

IDLE_S = 10.0  # a thread without work ends
_Work = Callable[[], Any]
_Box = queue.SimpleQueue  # of what the work returned and what it raised; one of them is None
_Inbox = queue.SimpleQueue["tuple[_Work, _Box[Any]] | None"]  # None: no more will come


class Workers:
    """Runs work in threads, one piece at a time in each; as many threads as there is work at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Inbox] = []
        self._closed = False

    def run(self, work: _Work, timeout_s: float) -> Any:
        """Let a thread do the work, and wait for it.

        Args:
            work: What is to be done. After `timeout_s` it goes on, and nobody hears of it.
            timeout_s: Seconds to wait.

        Returns:
            What it returns.

        Raises:
            TimeoutError: It takes longer.
            Exception: What it raises.
        """
        box: _Box[Any] = queue.SimpleQueue()
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is None:
            inbox = queue.SimpleQueue()
            threading.Thread(target=self._loop, args=(inbox,), daemon=True, name="modelport-call").start()
        inbox.put((work, box))
        try:
            value, error = box.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError(f"no answer within {timeout_s:g} s") from None
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """End the threads that wait for work; those at work end after it."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for inbox in idle:
            inbox.put(None)

    def _loop(self, inbox: _Inbox) -> None:
        while True:
            try:
                given = inbox.get(timeout=IDLE_S)
            except queue.Empty:
                with self._lock:
                    if inbox in self._idle:  # else somebody took it at this moment
                        self._idle.remove(inbox)
                        return
                continue
            if given is None:
                return
            work, box = given
            outcome = _outcome(work)
            with self._lock:
                closed = self._closed
                if not closed:
                    self._idle.append(inbox)  # before the answer: the caller's next call finds it
            box.put(outcome)
            if closed:
                return
            del given, work, box, outcome  # nothing is kept while it waits


def _outcome(work: _Work) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except BaseException as error:
        return None, error
