"""Loads that never end in the server's own process: a stub that hangs can be killed, here only the server can."""

from __future__ import annotations

from collections.abc import Iterable

from modelport.server import stubs
from modelport.server.control import LOADING, VersionState
from modelport.server.handle import ServerHandle

STUCK_S = 600.0  # twice what a promotion waits for a load


class Loads:
    """Remembers since when versions are being loaded."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, int], float] = {}

    def see(self, states: Iterable[VersionState], now: float) -> None:
        """Take in the server's index, as it was at this time on the supervisor's clock."""
        loading = {(s.model, s.version) for s in states if s.state == LOADING and s.version is not None}
        self._since = {version: self._since.get(version, now) for version in loading}

    def stuck(self, handle: ServerHandle, now: float) -> str:
        """Which version has been loading for too long without a process of its own; empty where none has."""
        long = {version: since for version, since in dict(self._since).items() if now - since > STUCK_S}
        if not long or not handle.inside:
            return ""
        apart = {(stub.model, stub.version) for stub in stubs.find(handle)}
        for (model, version), since in sorted(long.items()):
            if (model, version) not in apart:
                what = f"version {version} of {model!r}"
                return f"{what} has been loading in the server's own process for {now - since:.0f} s"
        return ""
