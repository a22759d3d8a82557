"""Which process was meant: a number alone names another process once the first has ended."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_STATE, _STARTED = 0, 19  # fields 3 and 22 of /proc/PID/stat, counted after the program's name


@dataclass(frozen=True, kw_only=True)
class ProcessId:
    """A process, told from any other one that gets the same number.

    Attributes:
        pid: Its number.
        started: When it started: the machine's start (boot id) and the clock ticks since then. Unlike a time of day it
            does not move when the clock is set.
    """

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int | None = None) -> ProcessId:
        """The process of a number; by default this one.

        Raises:
            ProcessLookupError: There is none.
        """
        return cls._look(os.getpid() if pid is None else pid)[0]

    def lives(self) -> bool:
        """Whether this very process still runs; one that has ended and was not asked for yet does not."""
        try:
            found, state = self._look(self.pid)
        except ProcessLookupError:
            return False
        return found == self and state not in "ZX"

    @classmethod
    def _look(cls, pid: int) -> tuple[ProcessId, str]:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = _BOOT.read_text().strip()
        except OSError as exc:
            raise ProcessLookupError(f"there is no process {pid}") from exc
        return cls(pid=pid, started=f"{boot}/{fields[_STARTED]}"), fields[_STATE]
