"""What is left of a tenant's day, by the access log: a quota lasts over restarts, for the log does."""

from __future__ import annotations

import datetime
import json
import os
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelport.gateway import private
from modelport.gateway.keys.values import Limits

STATE_FILE = "quota.json"
_READ_BYTES = 8 << 20


class Used:
    """Counts the inferences that each tenant had today.

    A line counts once: how far the log was read is kept together with the counts, in one file that is replaced.

    Args:
        folder: The gateway's folder.
        log: The access log.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        self._path = folder / STATE_FILE
        self._log = log
        self._day, self._inode, self._offset = "", 0, 0
        self._count: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._read_state()

    def look(self, today: str) -> Mapping[str, int]:
        """Take in what was logged since the last look. Gives the inferences of today by tenant.

        Args:
            today: The day as `YYYY-MM-DD`, in UTC.
        """
        with self._lock:  # Prometheus asks, and the gateway when a quota changes
            if today != self._day:
                self._day = today
                self._count.clear()
            before = (self._inode, self._offset)
            self._take_in()
            if (self._inode, self._offset) != before or not self._path.exists():
                self._write_state()
            return dict(self._count)

    def _take_in(self) -> None:
        """First the rest of a log that was put aside since, then the log."""
        self._read(aside(self._log), known=True)
        self._read(self._log)

    def _read(self, path: Path, *, known: bool = False) -> None:
        """Read on in a file; with `known`, only if it is the one that was read last."""
        try:
            file = path.open("rb")
        except OSError:
            return
        with file:
            status = os.fstat(file.fileno())
            if known and status.st_ino != self._inode:
                return
            if status.st_ino != self._inode or status.st_size < self._offset:
                self._inode, self._offset = status.st_ino, 0
            file.seek(self._offset)
            while True:
                chunk = file.read(_READ_BYTES)
                whole = chunk.rfind(b"\n") + 1
                for line in chunk[:whole].splitlines():
                    self._add(line)
                self._offset += whole
                if not whole:
                    return
                file.seek(self._offset)

    def _add(self, line: bytes) -> None:
        """An inference that the gate let through today; what was refused before or is over the quota costs nothing."""
        try:
            found = json.loads(line)
        except ValueError:
            return
        counts = found.get("passed") and "RL" not in str(found.get("flags")).split(",")  # RL: it was over the quota
        if counts and str(found.get("time", "")).startswith(self._day):
            self._count[str(found.get("tenant"))] += 1

    def _read_state(self) -> None:
        try:
            content = json.loads(self._path.read_bytes())
            self._day, self._inode, self._offset = content["day"], int(content["inode"]), int(content["offset"])
            self._count.update({str(name): int(count) for name, count in content["used"].items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return

    def _write_state(self) -> None:
        content = {"day": self._day, "inode": self._inode, "offset": self._offset, "used": dict(self._count)}
        private.write(self._path, json.dumps(content).encode())


@dataclass(frozen=True, kw_only=True)
class Left:
    """What tenants may still ask.

    Attributes:
        round: How often it was counted; what was counted anew replaces what is left in Envoy's buckets.
        tenants: Tenant to inferences.
    """

    round: int
    tenants: Mapping[str, int]


def daily(tenants: Mapping[str, Limits]) -> dict[str, int]:
    """The tenants that have a quota, with it."""
    return {name: one.daily for name, one in tenants.items() if one.daily is not None}


def left(daily: Mapping[str, int], used: Mapping[str, int]) -> dict[str, int]:
    """What each tenant may still ask of its quota today; never less than nothing."""
    return {name: max(0, most - used.get(name, 0)) for name, most in daily.items()}


def today() -> str:
    """The day, in UTC."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")


def aside(log: Path) -> Path:
    """Where an access log is put that has grown large; it is read to its end from there."""
    return log.with_name(f"{log.name}.1")
