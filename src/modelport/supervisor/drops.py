"""Version folders that are copied in: checked by a process of their own, then candidates, or promoted, or refused."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from modelport.repository.events import Event
from modelport.supervisor.watch import SETTLE_S, Watcher


class Drops:
    """Watches a repository and handles what is copied into it, one version at a time, in threads of its own.

    Args:
        repository: The model repository.
        emit: Called with each event, from these threads; it writes and prints them.
        settle_s: Seconds without any change, until a folder without a manifest counts as complete.

    Events: `dropped`, `drop_refused`, `drop_incomplete`, `drop_failed`, `drop_not_promoted`, `set_aside`,
    `version_changed`.
    """

    def __init__(self, repository: Path, emit: Callable[[Event], None], *, settle_s: float = SETTLE_S) -> None:
        self._emit = emit
        self._watcher = Watcher(repository, settle_s=settle_s)
        self._stop = threading.Event()
        self._counts: Counter[str] = Counter()

    def start(self) -> None:
        """Start watching; returns at once."""

    def stop(self, *, timeout_s: float = 5.0) -> None:
        """Stop watching, and end the check that is under way. Safe to call twice, and without `start`."""
        self._stop.set()

    def counts(self) -> Mapping[str, int]:
        """How many of each kind there were since the start, by the events' kinds; for metrics."""
        return dict(self._counts)
