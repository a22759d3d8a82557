"""Load what `config.pbtxt` wants and the server has not: new models, and what a killed command left half done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelport.errors import (
    ModelportError,
    RepositoryLockedError,
    ServerError,
    ServerTimeoutError,
    VersionNotFoundError,
)
from modelport.lifecycle import settle, trial
from modelport.repository import events, journal
from modelport.repository.events import Event
from modelport.repository.journal import Note
from modelport.repository.versions import loaded_versions
from modelport.server.handle import ServerHandle
from modelport.supervisor.backoff import Backoff
from modelport.supervisor.jobs import Jobs
from modelport.supervisor.link import Link
from modelport.supervisor.wishes import Wish

LOAD_TIMEOUT_S = 300.0
LOCKED_S = 1.0  # another command changes the model; it is looked at again then
FINISH_S = 2.0  # between two looks at what killed commands left
KILLED = "(killed commands)"  # no model's name
FIRST_S, MOST_S = 10.0, 300.0  # until a load that failed is tried again with the same files


def taken_back(note: Note) -> Event:
    """The event for what a killed command left, and what is as before now."""
    text = f"a killed {note.operation} of version {note.version} was taken back"
    return events.event("taken_back", text, model=note.model, version=note.version)


def _backoff() -> Backoff:
    return Backoff(first_s=FIRST_S, most_s=MOST_S, limit=1 << 30)


@dataclass
class _State:
    """What came of the last attempt: with which files, until when nothing is tried, and what failed."""

    mark: tuple[object, ...] | None = None
    until: float = 0.0
    locked_until: float = 0.0
    problem: str = ""
    backoff: Backoff = field(default_factory=_backoff)


class Mender:
    """Brings the server to what the repository wants, one model at a time, never while another command changes it.

    Args:
        repository: The model repository.
        link: The server.
        jobs: Where loading is done.
        emit: Takes events.
        clock: Seconds that only grow.
        load_timeout_s: Seconds that a model may take to load.
    """

    def __init__(
        self,
        repository: Path,
        link: Link,
        jobs: Jobs,
        emit: Callable[[Event], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        load_timeout_s: float = LOAD_TIMEOUT_S,
    ) -> None:
        self._repository = repository
        self._link = link
        self._jobs = jobs
        self._emit = emit
        self._clock = clock
        self._load_timeout_s = load_timeout_s
        self._states: dict[str, _State] = {}
        self._finish_at = 0.0
        self._unfinished = ""

    def started(self, failed: Mapping[str, str]) -> None:
        """A server has started, and these models did not load; with the same files they are not tried again at once."""
        until = self._clock() + FIRST_S
        self._states = {model: _State(until=until, problem=reason) for model, reason in failed.items()}
        for model, reason in failed.items():
            self._emit(events.event("load_failed", reason, model=model, level="error"))

    def consider(self, model: str, wish: Wish, loaded: tuple[int, ...]) -> None:
        """Do something about a model when the server has not what is wanted.

        Args:
            model: The model.
            wish: What is wanted.
            loaded: The versions that are ready in the server.
        """
        state = self._states.setdefault(model, _State())
        if wish.versions == loaded and not wish.problem:
            self._states[model] = _State()
            return
        if state.mark is None and state.problem:
            state.mark = wish.mark
        now, same = self._clock(), state.mark == wish.mark
        if now < state.locked_until or (same and now < state.until):
            return
        if wish.versions:
            self._jobs.start(model, "loading", lambda: self._mend(model, wish))
        elif wish.problem and not same:
            state.mark, state.problem = wish.mark, wish.problem
            self._emit(events.event("config_unreadable", wish.problem, model=model, level="error"))

    def finish(self) -> None:
        """Finish what killed commands left behind: files, versions on trial, what the server loaded of them."""
        handle = self._link.handle
        if handle is None or self._clock() < self._finish_at:
            return
        self._finish_at = self._clock() + FINISH_S
        if journal.pending(self._repository) or journal.to_load(self._repository) or trial.left(handle):
            self._jobs.start(KILLED, "finishing what killed commands left", lambda: self._finish(handle))

    def changing(self, model: str) -> str:
        """What is being done with the model; empty when nothing is."""
        state = self._states.get(model)
        if state is not None and self._clock() < state.locked_until + LOCKED_S:
            return "another command is changing it"
        return self._jobs.busy().get(model, "")

    def problem(self, model: str) -> str:
        """Why the model is not as wanted; empty when it is, or when nobody has tried yet."""
        state = self._states.get(model)
        return "" if state is None else state.problem

    def _mend(self, model: str, wish: Wish) -> None:
        handle, state = self._link.handle, self._states.setdefault(model, _State())
        if handle is None:
            return
        try:
            with journal.changing(self._repository, model, timeout_s=0) as note:
                if note is not None:
                    self._emit(taken_back(note))
                if not loaded_versions(self._repository, model):
                    return
                started = self._clock()
                versions = self._load(handle, model)
        except RepositoryLockedError:
            state.locked_until = self._clock() + LOCKED_S
        except ModelportError as error:
            if self._link.is_up(handle):
                self._failed(model, state, wish, f"{error.what}: {error.why}")
        else:
            self._states[model] = _State()
            text = f"loaded version {', '.join(map(str, versions))}"
            seconds = round(self._clock() - started, 3)
            self._emit(events.event("loaded", text, model=model, version=max(versions), seconds=seconds))

    def _load(self, handle: ServerHandle, model: str) -> tuple[int, ...]:
        """Load a model, without what keeps its serving version from being loaded; a load that hangs is ended."""
        try:
            return handle.load(model, timeout_s=self._load_timeout_s)
        except ServerTimeoutError:
            handle.end_loads(model)
            raise
        except (ServerError, VersionNotFoundError):
            if not handle.shed(model):
                raise
            return handle.load(model, timeout_s=self._load_timeout_s)

    def _failed(self, model: str, state: _State, wish: Wish, reason: str) -> None:
        wait_s = state.backoff.failed() if state.mark == wish.mark else FIRST_S
        if state.mark != wish.mark or state.problem != reason:
            self._emit(events.event("load_failed", reason, model=model, level="error"))
        state.mark, state.problem, state.until = wish.mark, reason, self._clock() + (wait_s or MOST_S)

    def _finish(self, handle: ServerHandle) -> None:
        try:
            settle.settle(self._repository, handle)
        except ModelportError as error:
            self._finish_at = self._clock() + FIRST_S
            text = f"{error.what}: {error.why}"
            if self._link.is_up(handle) and text != self._unfinished:
                self._unfinished = text
                self._emit(events.event("not_taken_back", text, level="error"))
        else:
            self._unfinished = ""
