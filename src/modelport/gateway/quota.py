"""What is left of a tenant's day, by the access log: a quota lasts over restarts, for the log does."""

from __future__ import annotations

import datetime
import json
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelport.gateway import access_log, private
from modelport.gateway.access_log import Line
from modelport.gateway.keys.values import Limits

STATE_FILE = "quota.json"
_DAYS = 3  # that are remembered, the one looked at last the longest: a clock can be set back over midnight
_LOGS = 4  # that are remembered: more than are there at a time


class Used:
    """Counts the inference requests that each tenant had today, whatever the rows in each.

    A line counts once: how far the log was read is kept together with the counts, in one file that is replaced.

    Args:
        folder: The gateway's folder.
        log: The access log.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        self._path = folder / STATE_FILE
        self._log = log
        self._offsets: dict[str, int] = {}  # up to where each log was read, the latest one last
        self._days: dict[str, Counter[str]] = {}
        self._lock = threading.Lock()
        self._read_state()

    def look(self, today: str) -> Mapping[str, int]:
        """Take in what was logged since the last look. Gives the requests of today by tenant.

        Args:
            today: The day as `YYYY-MM-DD`, in UTC.
        """
        with self._lock:  # Prometheus asks, and the gateway when a quota changes
            self._days[today] = self._days.pop(today, Counter())
            self._days = dict(list(self._days.items())[-_DAYS:])
            before = dict(self._offsets)
            self._take_in()
            if self._offsets != before or not self._path.exists():
                self._write_state()
            return dict(self._days[today])

    def _take_in(self) -> None:
        for piece in access_log.pieces(self._log, lambda name: self._offsets.get(name, 0)):
            for line in access_log.requests(piece.lines):
                self._add(line)
            self._offsets.pop(piece.name, None)
            self._offsets[piece.name] = piece.end
        self._offsets = dict(list(self._offsets.items())[-_LOGS:])

    def _add(self, line: Line | None) -> None:
        """A request that the gate let through; what was refused before or is over the quota costs nothing."""
        counts = line is not None and line.passed and "RL" not in line.flags.split(",")  # RL: it was over the quota
        if line is not None and counts and line.time[:10] in self._days:
            self._days[line.time[:10]][line.tenant] += 1

    def _read_state(self) -> None:
        try:
            content = json.loads(self._path.read_bytes())
            days = content["days"] if "days" in content else {content["day"]: content["used"]}  # as it was before
            offsets = {name: int(offset) for name, offset in content["logs"].items()}
            self._days = {day: Counter({name: int(n) for name, n in used.items()}) for day, used in days.items()}
            self._offsets = offsets
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return

    def _write_state(self) -> None:
        content = {"days": self._days, "logs": self._offsets}
        private.write(self._path, json.dumps(content).encode())


@dataclass(frozen=True, kw_only=True)
class Left:
    """What tenants may still ask.

    Attributes:
        round: How often it was counted; what was counted anew replaces what is left in Envoy's buckets.
        tenants: Tenant to inference requests.
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
