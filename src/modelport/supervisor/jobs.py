"""What takes long, in threads of its own: loading and restoring models, one thing at a time for each model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

THREADS = 8  # so many models may hang in their loading, until those that are to be restored wait for them


class Jobs:
    """Runs actions, at most one for a model at a time."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="modelport-work")
        self._lock = threading.Lock()
        self._busy: dict[str, str] = {}
        self._crash: BaseException | None = None

    def start(self, model: str, what: str, action: Callable[[], None]) -> bool:
        """Start an action for a model, unless there is one already.

        Args:
            model: The model.
            what: What is done, in words.
            action: Does it; it reports its own failures.

        Returns:
            Whether it was started.

        Raises:
            Exception: What an earlier action failed with, when that was not a failure it reports.
        """
        if self._crash is not None:
            crash, self._crash = self._crash, None
            raise crash
        with self._lock:
            if model in self._busy:
                return False
            self._busy[model] = what
        self._pool.submit(action).add_done_callback(lambda future: self._done(model, future))
        return True

    def busy(self) -> dict[str, str]:
        """Model to what is done for it now."""
        with self._lock:
            return dict(self._busy)

    def stop(self) -> None:
        """Start nothing more. What runs ends when the server does."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _done(self, model: str, future: Future[None]) -> None:
        with self._lock:
            self._busy.pop(model, None)
        if not future.cancelled() and future.exception() is not None:
            self._crash = future.exception()
