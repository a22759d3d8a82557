"""Load a model anew whose process died, was stopped, or hangs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modelport.errors import ModelportError, RepositoryLockedError, ServerError, ServerTimeoutError
from modelport.repository import events, journal
from modelport.repository.events import Event
from modelport.server import shared_memory
from modelport.server.handle import ServerHandle
from modelport.supervisor.answers import BUSY, OK, UNPROVED
from modelport.supervisor.backoff import Backoff
from modelport.supervisor.jobs import Jobs
from modelport.supervisor.link import Link
from modelport.supervisor.probes import Prober
from modelport.supervisor.stubs import Stub

LIMIT = 5  # failures in a row, after which a model is left alone
FIRST_S, MOST_S = 1.0, 30.0
LOCKED_S = 0.5
LOAD_TIMEOUT_S = 300.0
PROOF_S = 30.0  # a first answer may take long
RELAPSE_S = 8.0  # so that also one that is lost often is back within 15 s
QUIET_S = 60.0  # a model that was restored and lost again within this time is restored more slowly each time


def _failures() -> Backoff:
    return Backoff(first_s=FIRST_S, most_s=MOST_S, limit=LIMIT)


def _relapses() -> Backoff:
    return Backoff(first_s=FIRST_S, most_s=RELAPSE_S, limit=1 << 30)


@dataclass
class _State:
    """What is wrong with a model, and what was tried."""

    fault: str = ""
    since: float = 0.0
    lost: tuple[Stub, ...] = ()
    versions: tuple[int, ...] = ()
    until: float = 0.0
    ended: float = float("-inf")
    given_up: tuple[object, ...] | None = None
    replaced: set[int] = field(default_factory=set)
    failures: Backoff = field(default_factory=_failures)
    relapses: Backoff = field(default_factory=_relapses)


class Restorer:
    """Restores models, and leaves one alone that cannot be restored.

    Args:
        repository: The model repository.
        link: The server.
        jobs: Where restoring is done.
        prober: Asks whether a model is well again.
        emit: Takes events.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        repository: Path,
        link: Link,
        jobs: Jobs,
        prober: Prober,
        emit: Callable[[Event], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._repository = repository
        self._link = link
        self._jobs = jobs
        self._prober = prober
        self._emit = emit
        self._clock = clock
        self._states: dict[str, _State] = {}
        self.restores: Counter[tuple[str, bool]] = Counter()  # by model, and whether it succeeded

    def started(self) -> None:
        """A server has started: all processes are new."""
        self._states = {}

    def consider(
        self,
        model: str,
        *,
        lost: Sequence[Stub],
        hanging: Mapping[int, str],
        well: bool,
        mark: tuple[object, ...],
        looked_at: float,
    ) -> None:
        """Do something about a model when something is wrong with it.

        Args:
            model: The model.
            lost: Its processes that will not answer again.
            hanging: Versions that are to be loaded anew though theirs live, each with the reason.
            well: Whether all its versions answer as they should.
            mark: Another one when the model's files changed; one that was left alone is then tried again.
            looked_at: When all this was seen, on the supervisor's clock.
        """
        why, state = _why(lost, hanging), self._states.get(model)
        if not why and state is None:
            return
        state = self._states.setdefault(model, _State())
        if state.ended >= looked_at or model in self._jobs.busy():
            return
        if not why:
            if well:
                state.fault, state.given_up = "", None
                state.failures.reset()
            return
        now = self._clock()
        if not state.fault:
            state.fault, state.since = why, now
            self._emit(events.event("stub_lost", why, model=model, level="error"))
        if state.given_up not in (None, mark):
            state.given_up = None
            state.failures.reset()
        if state.given_up is None and now >= state.until:
            state.lost = tuple(lost)
            state.versions = tuple(sorted({*hanging, *(stub.version for stub in lost)}))
            self._jobs.start(model, "restoring", lambda: self._restore(model, state, mark))

    def fault(self, model: str) -> str:
        """What is wrong with the model's processes; empty when nothing is."""
        state = self._states.get(model)
        if state is None or not state.fault:
            return ""
        return f"could not be restored {LIMIT} times in a row: {state.fault}" if state.given_up else state.fault

    def replaced(self) -> set[int]:
        """Numbers of processes that were replaced since this was last asked."""
        found: set[int] = set()
        for state in list(self._states.values()):
            found |= state.replaced
            state.replaced = set()
        return found

    def _restore(self, model: str, state: _State, mark: tuple[object, ...]) -> None:
        handle = self._link.handle
        if handle is None:
            return
        started = self._clock()
        try:
            with journal.changing(self._repository, model, timeout_s=0):
                self._load_anew(handle, model, state.versions)
                self._prove(model, state.versions)
        except RepositoryLockedError:
            state.until = self._clock() + LOCKED_S
        except ModelportError as error:
            if self._link.is_up(handle):
                self._failed(model, state, mark, f"{error.what}: {error.why}")
        else:
            self._well_again(model, state, started)

    def _load_anew(self, handle: ServerHandle, model: str, versions: tuple[int, ...]) -> None:
        """Load versions anew; one beside them whose files were damaged meanwhile does not keep them from that."""
        try:
            handle.restore(model, versions=versions, timeout_s=LOAD_TIMEOUT_S)
        except ServerTimeoutError:
            raise
        except ServerError as error:
            if not handle.shed(model, error.why):
                raise
            handle.restore(model, versions=versions, timeout_s=LOAD_TIMEOUT_S)

    def _prove(self, model: str, versions: tuple[int, ...]) -> None:
        """Every version that was loaded anew answers its golden request, or is busy enough to refuse it.

        Raises:
            ServerError: One does not.
        """
        for version in versions:
            kind, reason = self._prober.prove((model, version), timeout_s=PROOF_S) or (OK, "")
            if kind not in (OK, UNPROVED, BUSY):
                raise ServerError(
                    f"version {version} of {model!r} does not answer as it should after it was loaded anew",
                    why=reason,
                    fix="look into the server's log",
                )
        self._prober.forget(model)  # what the lost processes answered, or still owe

    def _failed(self, model: str, state: _State, mark: tuple[object, ...], reason: str) -> None:
        wait_s = state.failures.failed()
        self.restores[model, False] += 1
        state.ended = self._clock()
        self._emit(events.event("restore_failed", reason, model=model, level="error", tries=state.failures.failures))
        if wait_s is None:
            state.given_up = mark
            text = f"left alone after {LIMIT} tries: {reason}; correct it and load it, or start the server anew"
            self._emit(events.event("restore_given_up", text, model=model, level="error"))
        else:
            state.until = state.ended + wait_s

    def _well_again(self, model: str, state: _State, started: float) -> None:
        now = self._clock()
        if started - state.ended > QUIET_S:
            state.relapses.reset()
        wait_s = state.relapses.failed() or RELAPSE_S
        seconds = round(now - state.since, 3)
        text = f"loaded anew and answering, {seconds:.1f} s after it was noticed: {state.fault}"
        state.replaced |= {stub.pid for stub in state.lost}
        for stub in state.lost:  # the server leaves what a dead one has used
            (shared_memory.FOLDER / stub.region).unlink(missing_ok=True)
        state.ended, state.fault = now, ""
        state.until = now + wait_s if state.relapses.failures > 1 else now
        state.failures.reset()
        self.restores[model, True] += 1
        self._emit(events.event("stub_restored", text, model=model, level="warning", seconds=seconds))


def _why(lost: Sequence[Stub], hanging: Mapping[int, str]) -> str:
    words = {f"the process of version {stub.version} is {stub.state}" for stub in lost}
    return ", ".join(sorted(words | {f"version {version}: {why}" for version, why in hanging.items()}))
