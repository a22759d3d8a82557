"""Counts beside the gateway: a thread of low priority that reads what was logged, and what Triton computed."""

from __future__ import annotations

import contextlib
import datetime
import os
import threading
from collections.abc import Callable
from pathlib import Path

from modelport.repository import events
from modelport.repository.events import Event
from modelport.usage.answers import Told
from modelport.usage.counter import Counter, Statistics
from modelport.usage.store import Store

EVERY_S = 1.0
NICE = 10  # who answers requests comes first
END_S = 20.0
TOLD_S = 1.0  # that Prometheus waits for what was logged until now
LATELY = datetime.timedelta(days=2)


class Counting:
    """The thread that counts.

    Args:
        repository: The model repository.
        emit: Takes events.
        statistics: Gives Triton's statistics; None where nobody tells them.
    """

    def __init__(self, repository: Path, emit: Callable[[Event], None], statistics: Statistics | None = None) -> None:
        self._repository = repository
        self._statistics = statistics
        self._emit = emit
        self._store: Store | None = None
        self._counter: Counter | None = None
        self._trouble = ""
        self._told = Told()
        self._times_told = 0
        self._new = threading.Condition()
        self._asked = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._count, name="modelport-usage", daemon=True)

    def start(self) -> None:
        """Count from now on, and what was logged before."""
        self._thread.start()

    def stop(self) -> None:
        """Count what is left, and end."""
        self._ended.set()
        self._asked.set()
        if self._thread.is_alive():
            self._thread.join(END_S)
        if self._thread.is_alive():  # the next start counts the rest
            return
        self._try(self._take_in)
        if self._store is not None:
            self._store.close()

    @property
    def failing(self) -> bool:
        """Whether what was logged last could not be counted; it stays in the log until it is."""
        return bool(self._trouble)

    def told(self) -> Told:
        """What was answered until now; where that takes too long to count, what was known before."""
        with self._new:
            before = self._times_told
            self._asked.set()
            self._new.wait_for(lambda: self._times_told > before, TOLD_S)
            return self._told

    def may_put_aside(self) -> bool:
        """Whether the log that was put aside before has been counted, so that another one may take its place."""
        return self._counter is not None and self._counter.may_put_aside()

    def _count(self) -> None:
        with contextlib.suppress(OSError):
            own = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, own, os.getpriority(os.PRIO_PROCESS, own) + NICE)
        self._try(self._tell)  # first: what was logged meanwhile may take long to count
        while not self._ended.is_set():
            asked = self._asked.wait(EVERY_S)
            self._asked.clear()
            self._try(self._take_in, *([self._tell] if asked else []))
            if asked:
                with self._new:
                    self._times_told += 1
                    self._new.notify_all()

    def _take_in(self) -> None:
        self._opened().take_in()

    def _tell(self) -> None:
        since = datetime.datetime.now(datetime.timezone.utc) - LATELY
        told = self._opened_store().told(since.strftime("%Y-%m-%dT%H"))
        with self._new:
            self._told = told

    def _try(self, *steps: Callable[[], None]) -> None:
        """What fails is told, and tried again: the log stays until it has been counted."""
        try:
            for step in steps:
                step()
        except Exception as exc:
            trouble = f"{type(exc).__name__}: {exc}"
            if trouble != self._trouble:
                self._emit(events.event("usage_failed", trouble, level="error"))
            self._trouble = trouble
        else:
            self._trouble = ""

    def _opened(self) -> Counter:
        """Opened when it is needed: counts that are damaged are no reason to turn callers away."""
        if self._counter is None:
            self._counter = Counter(self._repository, self._opened_store(), self._statistics)
        return self._counter

    def _opened_store(self) -> Store:
        if self._store is None:
            self._store = Store(self._repository)
        return self._store
