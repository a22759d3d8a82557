"""Version folders that are copied in: checked by a process of their own, then candidates, or promoted, or refused.

A thread watches and another one handles what it finds, one version at a time. What the check opens may be hostile, so
it runs in a child with limits; a crash there is a reason to refuse, and nothing more.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from modelport._process import Child, tail
from modelport.errors import ModelportError, RepositoryLockedError, ServerTimeoutError
from modelport.lifecycle.adopt import hold
from modelport.lifecycle.adopt.files import entries
from modelport.lifecycle.change import promote
from modelport.repository import drops, journal, lock, placed, record
from modelport.repository.events import Event, event
from modelport.repository.layout import config_path, state_folder
from modelport.repository.versions import serving_version
from modelport.supervisor.findings import Complete, Dangerous, Finding, Incomplete, Misplaced
from modelport.supervisor.folders import signature
from modelport.supervisor.watch import SETTLE_S, Watcher

SET_ASIDE = "set-aside"
CHECK_TIMEOUT_S = 600.0
RETRY_S = 60.0
TRIES = 3  # a lock, a full disk, a defect: none of that is the folder's fault, as far as we know
LOCK_WAIT_S = 1.0
POLL_S = 0.2
GRACE_S = 1.0
MEBIBYTE = 1 << 20
MEMORY_MIB = 4096  # for torch and ONNX Runtime, and for the copies that they make of the model:
MEMORY_PER_SIZE = 8


@dataclass(frozen=True, kw_only=True)
class _Waiting:
    """Something to handle, not before `due`."""

    finding: Finding
    due: float = 0.0
    tries: int = 0


class Drops:
    """Watches a repository and handles what is copied into it, in threads of its own.

    Args:
        repository: The model repository.
        emit: Called with each event, from these threads; it writes and prints them.
        settle_s: Seconds without any change, until a folder without a manifest counts as complete.
        check_timeout_s: Seconds that the check of one version may take.
        watcher: One with other settings, for the same repository.

    Events: `dropped` (it is a candidate now), `drop_refused`, `drop_failed` (not its fault; tried again),
    `drop_not_promoted`, `drop_misplaced`, `set_aside`, `version_changed`, `watch_blind`, `watch_failed`.
    """

    def __init__(
        self,
        repository: Path,
        emit: Callable[[Event], None],
        *,
        settle_s: float = SETTLE_S,
        check_timeout_s: float = CHECK_TIMEOUT_S,
        watcher: Watcher | None = None,
    ) -> None:
        self._repository = repository.resolve()
        self._emit = emit
        self._timeout_s = check_timeout_s
        self._watcher = watcher or Watcher(self._repository, settle_s=settle_s)
        self._stop = threading.Event()
        self._findings: queue.Queue[Finding] = queue.Queue()
        self._counts: Counter[str] = Counter()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start watching; returns at once."""
        for name, work in (("watch", self._watch), ("drops", self._work)):
            thread = threading.Thread(target=work, name=f"modelport-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, *, timeout_s: float = 5.0) -> None:
        """Stop watching, and end the check that is under way. Safe to call twice, and without `start`."""
        self._stop.set()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def alive(self) -> bool:
        """Whether both threads run."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def counts(self) -> Mapping[str, int]:
        """How many events of each kind there were since the start, for metrics."""
        return dict(self._counts)

    def _watch(self) -> None:
        with self._telling():
            self._watcher.run(self._findings.put, self._stop)

    def _work(self) -> None:
        with self._telling():
            self._handle()

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """A thread that ends by a defect does not end in silence."""
        try:
            yield
        except Exception as exc:
            text = f"nothing that is copied in is picked up any more: {type(exc).__name__}: {exc}"
            self._tell("watch_failed", text, level="error")
            raise

    def _handle(self) -> None:
        waiting: list[_Waiting] = []
        blind = ""
        while not self._stop.is_set():
            self._take(waiting)
            if self._watcher.blind != blind:
                blind = self._watcher.blind
                self._tell("watch_blind", f"the kernel does not report changes ({blind}); looking every few seconds")
            one = next((w for w in waiting if w.due <= time.monotonic()), None)
            if one is not None:
                waiting.remove(one)
                waiting += self._handled(one)

    def _take(self, waiting: list[_Waiting]) -> None:
        """Take what was found meanwhile; what was found twice is handled once."""
        with contextlib.suppress(queue.Empty):
            finding = self._findings.get(timeout=POLL_S)
            while True:
                waiting[:] = [*(w for w in waiting if w.finding != finding), _Waiting(finding=finding)]
                finding = self._findings.get_nowait()

    def _handled(self, one: _Waiting) -> list[_Waiting]:
        """Handle one finding; it itself when it is to be tried again."""
        if self._stop.is_set():
            return []
        finding = one.finding
        try:
            if isinstance(finding, Complete):
                self._complete(finding, tries=one.tries)
            elif isinstance(finding, Incomplete):
                self._incomplete(finding)
            elif isinstance(finding, Dangerous):
                self._set_aside(finding)
            elif isinstance(finding, Misplaced):
                self._tell("drop_misplaced", f"{finding.name!a} is not picked up: {finding.reason}", finding)
            else:
                self._tell("version_changed", finding.reason, finding)
        except ModelportError as exc:  # a child that cannot be started or stopped
            return self._later(one, _Again(exc.what, RETRY_S))
        except _Again as exc:
            return self._later(one, exc)
        return []

    def _later(self, one: _Waiting, why: _Again) -> list[_Waiting]:
        if one.tries == 0:
            self._tell("drop_failed", f"{why}; trying again", one.finding)
        return [_Waiting(finding=one.finding, due=time.monotonic() + why.after_s, tries=one.tries + 1)]

    def _complete(self, finding: Complete, *, tries: int) -> None:
        folder, last = self._repository / finding.model / str(finding.version), tries + 1 >= TRIES
        if not folder.exists():
            return
        if placed.ours(self._repository, finding.model, finding.version):
            if tries:  # else it was found twice, or adopted by hand
                self._promote(finding, last)
            return
        before = signature(folder)
        began = time.monotonic()
        code, words = self._check(finding, folder)
        if self._stop.is_set():
            return
        if code == 0:
            seconds = round(time.monotonic() - began, 2)
            self._tell("dropped", f"checked in {seconds:.1f} s: a candidate", finding, level="info", seconds=seconds)
            self._promote(finding, last)
        elif placed.ours(self._repository, finding.model, finding.version):
            return  # somebody adopted it by hand meanwhile
        elif signature(folder) == before:  # else it changes, and is found again
            self._failed(finding, folder, code, words, last)

    def _incomplete(self, finding: Incomplete) -> None:
        try:
            with journal.changing(self._repository, finding.model, timeout_s=LOCK_WAIT_S):
                hold.back(self._repository, finding.model, finding.version, candidate=True)
        except RepositoryLockedError as exc:
            raise _Again(exc.what, LOCK_WAIT_S) from exc
        self._refuse(finding, f"it stays incomplete: {finding.reason}")

    def _failed(self, finding: Complete, folder: Path, code: int | None, words: str, last: bool) -> None:
        known = drops.refusal(self._repository, finding.model, finding.version)
        if known is not None:
            self._refuse(finding, known, noted=True)
        elif code is None:
            self._refuse(finding, f"looking at it took longer than {self._timeout_s:g} s")
        elif code < 0:
            self._refuse(finding, f"looking at it ended with signal {-code}: the file crashes what opens it")
        elif folder.is_symlink() or last:
            self._refuse(finding, words, noted=folder.is_symlink())
        else:
            raise _Again(words, RETRY_S)

    def _check(self, finding: Complete, folder: Path) -> tuple[int | None, str]:
        """Run the check: its exit code, None when it is late or was stopped, and what it said."""
        log = state_folder(self._repository) / "logs" / "adopt.log"
        log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "modelport", "adopt", f"{finding.model}/{finding.version}"]
        command += ["--repository", str(self._repository), "--candidate", "--json"]
        command += ["--memory-limit", str(MEMORY_MIB + MEMORY_PER_SIZE * _size(folder) // MEBIBYTE)]
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
        deadline = time.monotonic() + self._timeout_s
        child = Child(command, log=log, env=env, cwd=log.parent)
        try:
            code = child.wait(POLL_S)
            while code is None and not self._stop.is_set() and time.monotonic() < deadline:
                code = child.wait(POLL_S)
            return code, _words(child.log_tail())
        finally:
            child.stop(grace_s=GRACE_S)

    def _promote(self, finding: Complete, last: bool) -> None:
        model, version = finding.model, finding.version
        try:
            if record.read(config_path(self._repository, model)).on_drop != record.PROMOTE:
                return
            serving = serving_version(self._repository, model)
            if serving is not None and version < serving:
                why = f"not promoted: its number is below that of version {serving}, which serves"
                self._not_promoted(finding, why, level="info")
                return
            promote(model, version, repository=self._repository)
        except ModelportError as exc:
            if isinstance(exc, RepositoryLockedError | ServerTimeoutError) and not last:
                raise _Again(f"it is a candidate, and cannot be promoted now: {exc.what}", RETRY_S) from exc
            self._not_promoted(finding, f"it could not be promoted: {exc.what}: {exc.why}")

    def _not_promoted(self, finding: Complete, why: str, *, level: str = "warning") -> None:
        with contextlib.suppress(ModelportError):  # it is told all the same
            drops.not_promoted(self._repository, finding.model, finding.version, why)
        self._tell("drop_not_promoted", why, finding, level=level)

    def _refuse(self, finding: Complete | Incomplete, reason: str, *, noted: bool = False) -> None:
        if not noted:
            with contextlib.suppress(ModelportError):  # it went away, or the disk is full: it is told all the same
                drops.refuse(self._repository, finding.model, finding.version, reason)
        self._tell("drop_refused", reason, finding)

    def _set_aside(self, finding: Dangerous) -> None:
        source = self._repository / finding.model / finding.name
        folder = state_folder(self._repository) / SET_ASIDE / finding.model
        target, number = folder / finding.name, 1
        while os.path.lexists(target):
            target, number = folder / f"{finding.name}.{number}", number + 1
        try:
            with lock.model(self._repository, finding.model, timeout_s=LOCK_WAIT_S):
                folder.mkdir(parents=True, exist_ok=True)
                source.rename(target)
        except FileNotFoundError:
            return  # somebody else removed it
        except RepositoryLockedError as exc:
            raise _Again(exc.what, LOCK_WAIT_S) from exc
        except OSError as exc:
            raise _Again(f"{finding.name!r} cannot be moved out of the model's folder: {exc}", RETRY_S) from exc
        self._tell("set_aside", f"{finding.name!a} was moved to {str(target)!a}: {finding.reason}", finding)

    def _tell(
        self, kind: str, text: str, finding: Finding | None = None, *, level: str = "warning", **facts: object
    ) -> None:
        self._counts[kind] += 1
        model = "" if finding is None else finding.model
        version = getattr(finding, "version", None)
        self._emit(event(kind, text, model=model, version=version, level=level, **facts))


class _Again(Exception):
    """Not now: another process holds a lock, or the disk or the server refused."""

    def __init__(self, why: str, after_s: float) -> None:
        super().__init__(why)
        self.after_s = after_s


def _size(folder: Path) -> int:
    try:
        return sum(status.st_size for _, status in entries(folder))
    except OSError:
        return 0


def _words(output: str) -> str:
    """What the check said at its end, in one line."""
    lines = tail(output, 10).splitlines()
    start = max((i for i, line in enumerate(lines) if line.startswith("modelport: ")), default=0)
    said = [line for line in lines[start:] if not line.lstrip().startswith("do:")]
    return " ".join(" ".join(said).removeprefix("modelport: ").split())[:600] or "it said nothing"
