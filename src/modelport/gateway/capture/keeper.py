"""The folder of what was captured: `<state>/gateway/capture/records/<model>/`, a file for each hour or less.

A file is deleted as a whole when its oldest record has come to its age, so nothing lives longer than its rule says;
what came last in it lives up to a 24th of that time, or an hour, less.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelport.errors import ManifestError
from modelport.gateway import private
from modelport.gateway.capture import exchange as exchanges
from modelport.gateway.capture import segment, stored
from modelport.gateway.capture.exchange import Exchange
from modelport.gateway.capture.secret import Key
from modelport.gateway.capture.segment import Damaged, Head, Opened, Writer
from modelport.gateway.capture.stored import AREA, RECORDS, Rule
from modelport.spec import check_model_name

_LONGEST_S = 3600
_PARTS = 24  # files in the time that a rule keeps
_SIXTEENTH = 16  # of the most bytes: the largest file


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is kept of a model.

    Attributes:
        files: How many files.
        size_bytes: Of all of them.
        oldest_at: When the oldest file begins, in seconds since 1970; None where there is none.
    """

    files: int
    size_bytes: int
    oldest_at: int | None


class TooLargeError(Exception):
    """One request is more than a file of its model may hold."""


class Keeper:
    """Writes what was captured. For one thread of one process: the receiver's.

    Args:
        repository: The model repository.
        key: The key.
    """

    def __init__(self, repository: Path, key: Key) -> None:
        self._repository = repository
        self._key = key
        self._writers: dict[str, Writer] = {}

    def keep(self, exchange: Exchange, rule: Rule) -> None:
        """Write a request that is redacted already.

        Raises:
            TooLargeError: It is larger than a file may be.
            OSError: The disk refuses; nothing of it was written.
        """
        content = exchanges.pack(exchange)
        most = rule.most_bytes // _SIXTEENTH
        if len(content) + segment.HEADER_MOST > most:
            raise TooLargeError
        writer = self._writer(exchange, rule, most - len(content) - segment.HEADER_MOST)
        writer.append(Head(model=exchange.model, version=exchange.version, at=exchange.at), content)

    def close(self) -> None:
        """Finish the files that are being written."""
        while self._writers:
            self._writers.popitem()[1].close()

    def close_old(self, now: float) -> None:
        """Finish the files whose time is over, and those that were deleted."""
        for model, writer in list(self._writers.items()):
            if not writer.there or not 0 <= now - writer.begins_at < _length_s(writer.lives_s):
                self._writers.pop(model).close()

    def _writer(self, exchange: Exchange, rule: Rule, room: int) -> Writer:
        """The file that the model's records go to now, with room for one more."""
        self.close_old(exchange.at)
        known = self._writers.get(rule.model)
        if known is not None and known.lives_s == int(rule.keep_s) and known.size <= room:
            return known
        if known is not None:
            self._writers.pop(rule.model).close()
        place = folder(self._repository, rule.model)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_room(place, rule.most_bytes - rule.most_bytes // _SIXTEENTH)
        made = Writer(place, self._key, begins_at=int(exchange.at), lives_s=int(rule.keep_s))
        self._writers[rule.model] = made
        return made


def folder(repository: Path, model: str = "") -> Path:
    """Where a model's records are; without a model, the folder of all of them."""
    place = private.folder(repository, AREA, RECORDS)
    return place / check_model_name(model) if model else place


def models(repository: Path) -> list[str]:
    """The models of which something is kept."""
    place = folder(repository)
    return sorted(path.name for path in place.iterdir() if _files(path)) if place.is_dir() else []


def kept(repository: Path, model: str) -> Kept:
    """How much is kept of a model."""
    files = _files(folder(repository, model))
    begun = [times[0] for path in files if (times := segment.begins_and_lives(path))]
    return Kept(files=len(files), size_bytes=sum(map(_size, files)), oldest_at=min(begun, default=None))


def read(repository: Path, model: str, key: Key, *, since: float = 0.0) -> Iterator[Exchange | Damaged]:
    """What was captured of a model, the oldest first; what is damaged is told, and never given.

    Args:
        repository: The model repository.
        model: Model name.
        key: The key.
        since: Only what was captured at this time or later, in seconds since 1970.
    """
    for path in _files(folder(repository, model)):
        for found in segment.read(path, key, model):
            if isinstance(found, Opened) and found.head.at >= since:
                yield _exchange(found, path)
            elif isinstance(found, Damaged):
                yield found


def expire(repository: Path, now: float) -> int:
    """Delete what has come to its age, by the time it was captured for and by the rule that holds now.

    Returns:
        How many files were deleted.
    """
    try:
        rules = stored.rules(repository)
    except ManifestError:
        rules = {}  # the times in the files' names hold
    gone = 0
    for model in models(repository):
        longest_s = rules[model].keep_s if model in rules else float("inf")
        for path in _files(folder(repository, model)):
            times = segment.begins_and_lives(path)
            # One that begins after now was written under another clock: it goes when it is as far away.
            if times and abs(now - times[0]) >= min(times[1], longest_s):
                path.unlink(missing_ok=True)
                gone += 1
    return gone


def delete(repository: Path, model: str) -> int:
    """Delete all that is kept of a model; how many files that were."""
    count = len(_files(folder(repository, model)))
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder(repository, model))
    return count


def _exchange(opened: Opened, path: Path) -> Exchange | Damaged:
    try:
        return exchanges.unpack(opened.content)
    except ValueError as exc:
        return Damaged(where=path.name, why=f"a record was written by another version of modelport ({exc})")


def _length_s(lives_s: int) -> int:
    """Seconds after which the next file begins."""
    return max(1, min(_LONGEST_S, lives_s // _PARTS))


def _make_room(place: Path, most: int) -> None:
    """Delete the oldest files until the others take no more than this."""
    files = _files(place)
    total = sum(map(_size, files))
    for path in files:
        if total <= most:
            return
        total -= _size(path)
        path.unlink(missing_ok=True)


def _files(place: Path) -> list[Path]:
    """The segments in a folder, the oldest first."""
    try:
        return sorted(path for path in place.iterdir() if segment.begins_and_lives(path))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
