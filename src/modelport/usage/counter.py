"""Takes in what the gateway logged: every line once, whoever reads, and whoever is killed when."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelport.errors import ServerError
from modelport.gateway import access_log, private
from modelport.gateway.envoy.listener import ACCESS_LOG
from modelport.usage import lines
from modelport.usage.lines import Counts, Key, Versions
from modelport.usage.store import Store, Work

Statistics = Callable[[], Sequence[Mapping[str, Any]]]
TRIES = 100  # where others count at the same time


class Counter:
    """Counts what a repository's gateway logs.

    Args:
        repository: The model repository.
        store: Where the counts are kept.
        statistics: Gives Triton's statistics, one for each loaded version; None where nobody tells them.
    """

    def __init__(self, repository: Path, store: Store, statistics: Statistics | None = None) -> None:
        self._repository = repository
        self._store = store
        self._statistics = statistics
        self._log = private.folder(repository, ACCESS_LOG)
        self._aside_read = 0

    def take_in(self) -> None:
        """Count what was logged since it was counted last, by whomever.

        Raises:
            RepositoryError: The counts cannot be read or written.
            OSError: The log is there and cannot be read.
        """
        put_aside, closed = _inode(access_log.aside(self._log)), self._log.exists()
        for _ in range(TRIES):
            if self._read_on():
                break
        else:
            return
        if closed and _inode(access_log.aside(self._log)) == put_aside:  # by a new log: Envoy has left the old one
            self._aside_read = put_aside

    def may_put_aside(self) -> bool:
        """Whether the log that was put aside before has been read to its end, so that it may be replaced."""
        found = _inode(access_log.aside(self._log))
        return found in (0, self._aside_read)

    def _read_on(self) -> bool:
        """Read what is there; False where somebody else did at the same time."""
        versions, work = Versions(self._repository), None
        for piece in access_log.pieces(self._log, self._store.offset):
            counted = lines.count(piece.lines, versions)
            if work is None:  # after the first lines: so what they needed is in it
                work = self._work(counted.used)
            _share(counted.used, work)
            if not self._store.add(piece.name, piece.known, piece.end, counted, work):
                return False
        return True

    def _work(self, counts: Mapping[Key, Counts]) -> dict[tuple[str, int], Work]:
        """What each version computes for a row: what it did since it was looked at before; else as it was then."""
        known, rows = self._store.work(), collections.Counter[tuple[str, int]]()
        for key, sums in counts.items():
            rows[key.model, key.version] += sums.inferences
        try:
            now = self._statistics() if self._statistics is not None else ()
        except ServerError:
            now = ()
        for one in now:
            version = str(one["name"]), int(one["version"])
            known[version] = _since(known.get(version), _computed(one), rows[version])
        return known


def _computed(one: Mapping[str, Any]) -> Work:
    """What a version's instances did: by runs, for of requests that ran together each is told the whole run's time."""
    runs = one.get("batch_stats") or [one.get("inference_stats", {})]
    took_ns = sum(int(run.get("compute_infer", {}).get("ns", 0)) for run in runs)
    return Work(inferences=int(one.get("inference_count", 0)), compute_ns=took_ns)


def _since(before: Work | None, now: Work, logged: int) -> Work:
    """The counters now, with what a row took since.

    Where so few rows were computed since that those that were `logged` cannot all be among them, the mean since the
    version was loaded tells: it was loaded anew meanwhile, and its counters began at 0; or nobody had looked for long.
    """
    then = before or Work(inferences=0, compute_ns=0)
    rows, took_ns = now.inferences - then.inferences, now.compute_ns - then.compute_ns
    if before is not None and rows == took_ns == 0:
        return before
    if rows < logged or took_ns < 0:
        rows, took_ns = now.inferences, now.compute_ns
    each_ns = took_ns / rows if rows > 0 else then.each_ns
    return Work(inferences=now.inferences, compute_ns=now.compute_ns, each_ns=each_ns)


def _share(counts: Mapping[Key, Counts], work: Mapping[tuple[str, int], Work]) -> None:
    """Give everybody's rows what a row of that version takes."""
    for key, sums in counts.items():
        did = work.get((key.model, key.version))
        if did is not None:
            sums.compute_ns = round(sums.inferences * did.each_ns)


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0
