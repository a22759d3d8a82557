"""Watch a repository for version folders that are copied in. It decides nothing: it tells what it found.

A folder counts as complete when nothing in it has changed for a while, no name in it is one that copying programs use
until they are done, and every file that its manifest lists, if it has one, is there with its size.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import watchfiles

from modelport.errors import InvalidNameError, ModelportError
from modelport.repository import config as configs
from modelport.repository import drops, placed
from modelport.repository import manifest as manifests
from modelport.repository.layout import config_path, model_names
from modelport.repository.versions import loaded_versions
from modelport.server.model_folder import named_versions
from modelport.spec import parse_version
from modelport.supervisor.findings import Changed, Complete, Dangerous, Finding, Incomplete, Misplaced
from modelport.supervisor.folders import danger, misplaced, missing, no_model, signature

SETTLE_S = 10.0  # without any change, until a folder without a manifest counts as complete
TICK_S = 1.0
STEP_MS = 100
BLIND_S = 5.0  # between two scans of everything, while the kernel wakes nobody
BLIND_SHARE = 20  # and this many times as long as a scan takes


@dataclass(kw_only=True)
class _Seen:
    """What is known of a version folder."""

    signature: str
    since: float
    published: bool
    done: bool = False


class Watcher:
    """Watches a repository, woken by the kernel, and by a slow scan for file systems that wake nobody.

    Args:
        repository: The model repository.
        settle_s: Seconds without any change, until a folder without a manifest counts as complete.
        manifest_settle_s: The same for a folder whose manifest lists what is there.
        broken_after_s: Seconds without any change, until a folder that is not complete counts as broken.
        rescan_s: Seconds between two scans of everything.
        tick_s: Seconds between two looks at what is being copied in.
    """

    def __init__(
        self,
        repository: Path,
        *,
        settle_s: float = SETTLE_S,
        manifest_settle_s: float = 1.0,
        broken_after_s: float = 60.0,
        rescan_s: float = 60.0,
        tick_s: float = TICK_S,
    ) -> None:
        self.repository = repository.resolve()
        self.settle_s = settle_s
        self.manifest_settle_s = min(settle_s, manifest_settle_s)
        self.broken_after_s = broken_after_s
        self.rescan_s = rescan_s
        self.tick_s = tick_s
        self.blind = ""
        """Why the kernel does not wake it; empty while it does. Then only the scans find something."""
        self._seen: dict[str, dict[int, _Seen]] = {}
        self._told: set[tuple[str, str]] = set()

    def run(self, found: Callable[[Finding], None], stop: threading.Event) -> None:
        """Call `found` for each finding until `stop` is set.

        What is there at first, is loaded or was published is taken as it is; what was copied in before is found too.
        """
        self._scan(self._names(), found, stop, start=True)
        due = 0.0  # at once: something may have come before the kernel watches
        for touched in self._wakes(stop):
            began = time.monotonic()
            names = self._names() if began >= due else touched | self._pending()
            self._scan(names, found, stop)
            if began >= due:
                ended = time.monotonic()
                every_s = max(BLIND_S, BLIND_SHARE * (ended - began)) if self.blind else self.rescan_s
                due = ended + min(every_s, self.rescan_s)

    def _wakes(self, stop: threading.Event) -> Iterator[set[str]]:
        """The models in which something happened; empty sets every tick while nothing does."""
        try:
            changes = watchfiles.watch(
                self.repository,
                watch_filter=None,
                step=STEP_MS,
                rust_timeout=round(1000 * self.tick_s),
                yield_on_timeout=True,
                stop_event=stop,
                raise_interrupt=False,
            )
            for change in changes:
                paths = [Path(path) for _, path in change]
                yield {p.relative_to(self.repository).parts[0] for p in paths if p != self.repository}
        except (OSError, RuntimeError) as exc:  # such as too few inotify watches
            self.blind = str(exc)
        while not stop.wait(self.tick_s):
            yield set()

    def _names(self) -> set[str]:
        try:
            return {entry.name for entry in os.scandir(self.repository)}
        except OSError:
            return set()

    def _models(self) -> set[str]:
        try:
            return set(model_names(self.repository))
        except (ModelportError, OSError):
            return set()

    def _pending(self) -> set[str]:
        return {model for model, versions in self._seen.items() if any(not seen.done for seen in versions.values())}

    def _scan(
        self, names: set[str], found: Callable[[Finding], None], stop: threading.Event, *, start: bool = False
    ) -> None:
        known = self._models()
        for name in sorted(names):
            if stop.is_set():
                return
            if name not in known:
                self._seen.pop(name, None)
            for finding in self._look(name, start) if name in known else self._no_model(name):
                found(finding)

    def _look(self, model: str, start: bool) -> Iterator[Finding]:
        folder = self.repository / model
        try:
            names = sorted(entry.name for entry in os.scandir(folder))
        except OSError:
            return
        seen = self._seen.setdefault(model, {})
        versions: list[int] = []
        for name in names:
            number = _version(folder / name)
            if number is not None and number not in seen:
                published = self._was_published(model, number, start)
                seen[number] = _Seen(signature="", since=time.monotonic(), published=published)
            published = number is not None and seen[number].published
            reason = "" if published else danger(folder / name)
            if reason:
                yield from self._tell(Dangerous(model=model, name=name, reason=reason))
            elif number is not None:
                versions.append(number)
            elif reason := misplaced(folder / name):
                yield from self._tell(Misplaced(model=model, name=name, reason=reason))
        self._told -= {(m, name) for m, name in self._told if m == model and name not in names}
        yield from self._vanished(model, versions)
        for number in sorted(versions):
            yield from self._version(model, number, seen[number])

    def _no_model(self, name: str) -> Iterator[Finding]:
        reason = no_model(self.repository / name)
        if reason:
            yield from self._tell(Misplaced(model="", name=name, reason=reason))
        else:
            self._told.discard(("", name))

    def _tell(self, finding: Dangerous | Misplaced) -> Iterator[Finding]:
        if (finding.model, finding.name) not in self._told:
            self._told.add((finding.model, finding.name))
            yield finding

    def _vanished(self, model: str, versions: list[int]) -> Iterator[Finding]:
        gone = {number: seen for number, seen in self._seen[model].items() if number not in versions}
        for number, seen in gone.items():
            del self._seen[model][number]
            if seen.published and number in (named_versions(self.repository / model) or ()):
                reason = "its folder is gone, and config.pbtxt names it"
                yield Changed(model=model, version=number, reason=reason)

    def _was_published(self, model: str, number: int, start: bool) -> bool:
        """Whether a version that is seen for the first time was published; else it was copied in.

        At the start, what is loaded counts as published; so does what has a manifest, of a model of which nothing was
        noted, since whole repositories are copied.
        """
        known = placed.known(self.repository, model)
        if placed.ours(self.repository, model, number):
            return True
        if not start:
            self._remember_new(model, known is None)
            return False
        folder = self.repository / model / str(number)
        return number in _loaded(self.repository, model) or (known is None and placed.is_own(folder))

    def _remember_new(self, model: str, unknown: bool) -> None:
        """A model of which nothing was known comes while the service runs: what its manifests say is no proof."""
        if unknown and not any(seen.published for seen in self._seen[model].values()):
            with contextlib.suppress(OSError, ModelportError):  # it is checked all the same; only a list is too early
                placed.nothing_yet(self.repository, model)

    def _version(self, model: str, number: int, seen: _Seen) -> Iterator[Finding]:
        now, signature = time.monotonic(), self._signature(model, number)
        if not seen.signature:
            seen.done = seen.published or drops.refusal(self.repository, model, number) is not None
            seen.signature = signature
        elif signature != seen.signature:
            seen.signature, seen.since, seen.done = signature, now, False
        if seen.done:
            return
        quiet_s = now - seen.since
        if seen.published:
            if quiet_s >= self.manifest_settle_s:
                seen.done = True
                yield from self._damage(model, number)
        elif placed.ours(self.repository, model, number):
            seen.published = seen.done = True
        else:
            yield from self._drop(model, number, seen, quiet_s)

    def _drop(self, model: str, number: int, seen: _Seen, quiet_s: float) -> Iterator[Finding]:
        reason, vouched = missing(self.repository / model / str(number))
        if reason and quiet_s >= self.broken_after_s:
            seen.done = True
            yield Incomplete(model=model, version=number, reason=reason)
        elif not reason and quiet_s >= (self.manifest_settle_s if vouched else self.settle_s):
            seen.done = True
            yield Complete(model=model, version=number)

    def _damage(self, model: str, number: int) -> Iterator[Finding]:
        folder = self.repository / model / str(number)
        try:
            manifests.check_files(folder, manifests.read(folder))
        except (ModelportError, OSError) as exc:
            what = exc.what if isinstance(exc, ModelportError) else str(exc)
            yield Changed(model=model, version=number, reason=what)
        else:
            known = placed.known(self.repository, model) or ()
            if number in known and not placed.ours(self.repository, model, number):
                reason = "other files have taken its place, with a manifest of their own"
                yield Changed(model=model, version=number, reason=reason)

    def _signature(self, model: str, number: int) -> str:
        folder = self.repository / model / str(number)
        if any(seen.published for seen in self._seen[model].values()):
            return signature(folder)
        return signature(folder) + _settings(config_path(self.repository, model))  # a new model may wait for them


def _version(path: Path) -> int | None:
    try:
        return parse_version(path.name) if path.is_dir() else None
    except InvalidNameError:
        return None


def _loaded(repository: Path, model: str) -> tuple[int, ...]:
    try:
        return loaded_versions(repository, model)
    except ModelportError:
        return ()


def _settings(path: Path) -> str:
    """A model's configuration without its version policy, which the check of a version changes."""
    try:
        config = configs.read(path)
    except ModelportError:
        return signature(path)
    config.ClearField("version_policy")
    return configs.text(config)
