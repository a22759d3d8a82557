"""Ctrl-C, SIGTERM, and the SIGHUP of a closed terminal: the first asks for the end, the second hurries it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Takes these signals while the block runs; not a SIGHUP that `nohup` has ignored. Only the main thread can.

    Attributes:
        stop: Set when the end was asked for.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._interrupting = False
        self._before: dict[signal.Signals, Any] = {}

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """What runs in the block is interrupted by the first signal already.

        Raises:
            KeyboardInterrupt: There was one, also one that came before.
        """
        self._interrupting = True
        try:
            if self.stop.is_set():
                raise KeyboardInterrupt
            yield
        finally:
            self._interrupting = False

    def __enter__(self) -> Signals:
        hup = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        self._before = {n: signal.signal(n, self._take) for n in NUMBERS if n != signal.SIGHUP or hup}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        again = self.stop.is_set()
        self.stop.set()
        if again or self._interrupting:
            raise KeyboardInterrupt
