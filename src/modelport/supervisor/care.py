"""One look after another at what runs, what is wanted and what answers; what is wrong is handed to who mends it.

A look takes milliseconds, whatever the server does: what takes longer is done by the threads of `Jobs` and `Prober`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from modelport.errors import RepositoryError, ServerError, ServerTimeoutError
from modelport.repository import events
from modelport.repository.events import Event
from modelport.server.handle import ServerHandle
from modelport.spec import TRIAL_SUFFIX
from modelport.supervisor import readiness
from modelport.supervisor.answers import BUSY, FAILED, LATE, OK, UNPROVED, WRONG, Result
from modelport.supervisor.hangs import Hangs
from modelport.supervisor.jobs import Jobs
from modelport.supervisor.link import Link
from modelport.supervisor.loads import Loads
from modelport.supervisor.mend import Mender
from modelport.supervisor.probes import Prober, Version
from modelport.supervisor.readiness import ModelView, Readiness
from modelport.supervisor.restore import Restorer
from modelport.supervisor.stubs import Stubs
from modelport.supervisor.wishes import Wish, Wishes

INDEX_S = 1.0  # between two readings of the server's index, where nothing tells that it changed
HUNG_S = 30.0  # a server that answers no control call for so long is started anew


class Care:
    """Looks, and keeps what it saw.

    Args:
        repository: The model repository.
        link: The server.
        wishes: What is wanted.
        prober: Asks for golden answers.
        jobs: Where long work is done.
        emit: Takes events.
        clock: Seconds that only grow.

    Attributes:
        views: Model to what is seen of it.
        stubs: The processes that run models.
        mender: Loads what is missing.
        restorer: Loads anew what is lost.
    """

    def __init__(
        self,
        repository: Path,
        link: Link,
        wishes: Wishes,
        prober: Prober,
        jobs: Jobs,
        emit: Callable[[Event], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._repository = repository
        self._link = link
        self._wishes = wishes
        self._prober = prober
        self._jobs = jobs
        self._emit = emit
        self._clock = clock
        self._lock = threading.Lock()
        self._hangs = Hangs()
        self._loads = Loads()
        self._silent_since: float | None = None
        self._seen = self._unreadable = False
        self._loaded: Mapping[str, tuple[int, ...]] = {}
        self._marks: Mapping[str, tuple[object, ...]] = {}
        self._index_at = 0.0
        self._kinds: dict[Version, str] = {}
        self._reasons: tuple[str, ...] | None = None
        self.views: Mapping[str, ModelView] = {}
        self.stubs = Stubs(clock)
        self.mender = Mender(repository, link, jobs, emit, clock)
        self.restorer = Restorer(repository, link, jobs, prober, emit, clock)

    def started(self, handle: ServerHandle, failed: Mapping[str, str]) -> None:
        """A server has started, and these models did not load. Called before it is made known in `link`."""
        with self._lock:
            self.views, self._seen, self._index_at = {}, False, 0.0
            self._kinds = {}
            self._silent_since = None
            self._loads = Loads()
            self.mender.started(failed)
            self.restorer.started()
            self._prober.connect(handle.http_url)

    def ended(self) -> None:
        """The server has ended."""
        self._prober.disconnect()

    def look(self) -> None:
        """Look once."""
        with self._lock:
            self._look()

    def _look(self) -> None:
        handle, now = self._link.handle, self._clock()
        if handle is None or not handle.running():
            return
        replaced = self.restorer.replaced()
        self.stubs.write_off(replaced)
        try:
            wishes = self._wishes.read()
        except RepositoryError as error:
            if not self._unreadable:
                self._emit(events.event("repository_unreadable", f"{error.what}: {error.why}", level="error"))
            self._unreadable = True
            return
        self._unreadable = False
        marks = {model: wish.mark for model, wish in wishes.items()}
        if marks != self._marks or self._jobs.busy() or now >= self._index_at:
            found = self._index(handle)
            if found is None or not self._link.is_up(handle):
                return
            self._loaded, self._marks, self._index_at = found, marks, now + INDEX_S
        loaded = self._loaded
        known = {model: view.loaded for model, view in self.views.items() if view.loaded}
        self.stubs.look(handle, anew=bool(replaced) or loaded != known)
        self._prober.watch({(m, v): v == max(versions) for m, versions in loaded.items() for v in versions})
        self._prober.turn()
        self._mend(wishes, loaded)
        self._restore(handle, wishes, loaded, now)
        self._see(wishes, loaded, handle)
        self._tell(now)

    def ready(self) -> Readiness:
        """Whether the service is ready now."""
        if self._link.stopping:
            return Readiness(ready=False, missing={"": "the service is stopping"})
        handle = self._link.handle
        if handle is None or not handle.running():
            return Readiness(ready=False, missing={"": "the server is down, or has just been started"})
        if self._silent_since is not None and self._clock() - self._silent_since > HUNG_S / 3:
            return Readiness(ready=False, missing={"": "the server does not answer"})
        if not self._seen:
            return Readiness(ready=False, missing={"": "its models have just been loaded"})
        return readiness.overall(self.views, self._prober.results(), self._clock())

    def hung(self) -> bool:
        """Whether the server's process lives and has not answered for long."""
        return self._silent_since is not None and self._clock() - self._silent_since > HUNG_S

    def stuck(self) -> str:
        """Which version hangs in its loading in the server's own process, where only the server's end ends it."""
        handle = self._link.handle
        return "" if handle is None else self._loads.stuck(handle, self._clock())

    def _index(self, handle: ServerHandle) -> dict[str, tuple[int, ...]] | None:
        """Model to the versions that are ready; None when the server does not say."""
        try:
            states = handle.index()
        except ServerError as error:
            waited_s = error.timeout_s if isinstance(error, ServerTimeoutError) else 0.0
            if self._silent_since is None:
                self._silent_since = self._clock() - waited_s
            return None
        self._silent_since = None
        self._loads.see(states, self._clock())
        found: dict[str, list[int]] = {}
        for state in states:
            if state.ready and state.version is not None and not state.model.endswith(TRIAL_SUFFIX):
                found.setdefault(state.model, []).append(state.version)
        return {model: tuple(sorted(versions)) for model, versions in found.items()}

    def _mend(self, wishes: Mapping[str, Wish], loaded: Mapping[str, tuple[int, ...]]) -> None:
        self.mender.finish()
        for model, wish in wishes.items():
            self.mender.consider(model, wish, loaded.get(model, ()))

    def _restore(
        self, handle: ServerHandle, wishes: Mapping[str, Wish], loaded: Mapping[str, tuple[int, ...]], now: float
    ) -> None:
        self.stubs.taken_out(loaded, seen_at=self._index_at - INDEX_S)
        all_lost, results = self.stubs.lost(), self._prober.results()
        for model, versions in loaded.items():
            lost = [stub for stub in all_lost.get(model, ()) if stub.version in versions]
            kinds = {results[model, v].kind if (model, v) in results else "" for v in versions}
            found = {v: self._hang(handle, model, v, results.get((model, v)), now) for v in versions}
            self.restorer.consider(
                model,
                lost=lost,
                hanging={v: why for v, why in found.items() if why and v not in {stub.version for stub in lost}},
                well=kinds <= {OK, UNPROVED},
                mark=wishes[model].mark if model in wishes else (),
                looked_at=now,
            )

    def _hang(self, handle: ServerHandle, model: str, version: int, result: Result | None, now: float) -> str:
        """Why a version is to be loaded anew though none of its processes is seen to be lost; empty for an ensemble.

        One that died before it was seen is not among them. What runs in the server's own process is never idle.
        """
        if result is None or result.kind not in (FAILED, LATE):
            self._hangs.forget((model, version))
            return ""
        own = [stub for stub in self.stubs.of(model) if stub.version == version]

        def executions() -> int:
            found = [each for each in handle.statistics(model) if str(each.get("version")) == str(version)]
            return sum(int(each.get("execution_count", 0)) for each in found)

        cpu_s = sum(stub.cpu_s for stub in own)
        try:
            if not own and handle.runs_inside(model):
                cpu_s = now
            elif not own and handle.instances(model) == 0:
                return ""
            return self._hangs.verdict((model, version), result, cpu_s=cpu_s, executions=executions, now=now)
        except ServerError:  # the server is asked again at the next look
            return ""

    def _see(self, wishes: Mapping[str, Wish], loaded: Mapping[str, tuple[int, ...]], handle: ServerHandle) -> None:
        """Keep what was seen of each model."""
        results, now = self._prober.results(), self._clock()
        views: dict[str, ModelView] = {}
        for model in sorted(wishes.keys() | loaded.keys()):
            before = self.views.get(model, ModelView())
            has, wish = loaded.get(model, ()), wishes.get(model)
            problem = self.mender.problem(model)
            view = ModelView(
                # A folder that was taken away asks for nothing; what is loaded of it serves until the server ends.
                wanted=has if wish is None else wish.versions,
                loaded=has,
                changing=self.mender.changing(model),
                problem=problem,
                fault=self.restorer.fault(model),
                known=before.known or before.before or not self._seen,
                before=before.before,
                inside=handle.remote or (wish is not None and wish.backend in handle.inside),
                budget_ms=None if wish is None else wish.budget_ms,
            )
            result = None if view.serving is None else results.get((model, view.serving))
            views[model] = replace(view, before=readiness.not_ready(view, result, now) == "")
        self.views, self._seen = views, True

    def _tell(self, now: float) -> None:
        """Events for what changed: answers that are wrong or missing and come right again, and readiness."""
        for (model, version), result in self._prober.results().items():
            if result.kind in (LATE, BUSY) and result.good(now):
                continue
            before = self._kinds.get((model, version), OK)
            self._kinds[model, version] = result.kind
            if result.kind == before:
                continue
            if result.kind == WRONG:
                self._emit(events.event("wrong_answer", result.reason, model=model, version=version, level="error"))
            elif result.kind in (FAILED, LATE, BUSY):
                self._emit(events.event("no_answer", result.reason, model=model, version=version, level="error"))
            elif result.kind == OK and before in (WRONG, FAILED, LATE, BUSY):
                text = "answers its golden request again"
                self._emit(events.event("answers_again", text, model=model, version=version))
        if complaint := self.stubs.complaint():
            self._emit(events.event("many_dead_stubs", complaint, level="warning"))
        found = self.ready()
        reasons = tuple(f"{model}: {why}" if model else why for model, why in found.missing.items())
        if reasons != self._reasons:
            if found.ready and self._reasons is not None:
                self._emit(events.event("ready", "every serving version answers its golden request"))
            elif not found.ready and self._reasons == ():
                self._emit(events.event("not_ready", "; ".join(reasons), level="warning"))
            self._reasons = reasons
