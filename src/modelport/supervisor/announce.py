"""Events as they happen: into the repository's event log, one line each for whoever watches, and counted."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from modelport.repository import events
from modelport.repository.events import EVENTS_FILE, Event
from modelport.repository.layout import state_folder

SERVER_LOGGER = "modelport.server"


class Announcer:
    """Takes events of this process, and finds those that other commands write into the log meanwhile.

    Args:
        repository: The model repository.
        write: Called with one line for each event.
        as_json: JSON lines in place of lines for people.
    """

    def __init__(self, repository: Path, write: Callable[[str], None], *, as_json: bool) -> None:
        self._repository = repository
        self._write = write
        self._line = events.as_json if as_json else events.as_text
        self._lock = threading.Lock()
        self._own: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._log = _Follower(state_folder(repository) / EVENTS_FILE)

    def __call__(self, happened: Event) -> None:
        """An event of this process."""
        with self._lock:
            self._own[events.as_json(happened)] += 1
            events.append(self._repository, happened)
            self._show(happened)

    @contextlib.contextmanager
    def server_log(self) -> Iterator[None]:
        """What the embedded server logs in this process meanwhile becomes events: every line that is shown is one."""
        logger, handler = logging.getLogger(SERVER_LOGGER), _Logged(self)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)

    def follow(self) -> None:
        """Take in the events of other processes."""
        with self._lock:
            for line in self._log.lines():
                if self._own[line] > 0:
                    self._own[line] -= 1
                    continue
                with contextlib.suppress(ValueError, TypeError):
                    self._show(Event(**json.loads(line)))
            self._own = +self._own  # without the zeros

    def counts(self) -> dict[str, int]:
        """How many there were of each kind since the start."""
        with self._lock:
            return dict(self._counts)

    def close(self) -> None:
        """Stop following."""
        self._log.close()

    def _show(self, happened: Event) -> None:
        self._counts[happened.kind] += 1
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            self._write(self._line(happened))


class _Logged(logging.Handler):
    """Gives records of a logger on as events; not those about one model, of which the supervisor tells by itself."""

    def __init__(self, announce: Callable[[Event], None]) -> None:
        super().__init__(logging.WARNING)
        self._announce = announce

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, "model"):
            return
        level = "error" if record.levelno >= logging.ERROR else "warning"
        self._announce(events.event("server_warned", record.getMessage(), level=level))


class _Follower:
    """Reads the lines that are added to a file, from now on, also when the file is replaced by a new one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rest = b""
        self._file: IO[bytes] | None = self._open()
        if self._file is not None:
            self._file.seek(0, os.SEEK_END)

    def lines(self) -> list[str]:
        """The whole lines that are new."""
        content = self._rest + self._read()
        *whole, self._rest = content.split(b"\n")
        return [line.decode("utf-8", "replace") for line in whole]

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self) -> bytes:
        try:
            status = self._path.stat()
        except OSError:
            return b""
        found = b""
        if self._file is not None:
            if os.fstat(self._file.fileno()).st_ino == status.st_ino:
                return self._file.read()
            found = self._file.read()
            self.close()
        self._file = self._open()
        return found + (self._file.read() if self._file is not None else b"")

    def _open(self) -> IO[bytes] | None:
        try:
            return self._path.open("rb")
        except OSError:
            return None
