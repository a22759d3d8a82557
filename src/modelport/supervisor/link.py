"""The server as the supervisor's threads see it: which one runs now, if any."""

from __future__ import annotations

from dataclasses import dataclass

from modelport.server.handle import ServerHandle


@dataclass
class Link:
    """The present server. Written by the thread that starts servers; others take one look at `handle` and use that.

    Attributes:
        handle: The server; None while it is down.
        since: When it started, on the supervisor's clock.
        starts: How many were started so far.
        version: Triton's version, as the one that was started last told it.
        stopping: No server will be started again.
    """

    handle: ServerHandle | None = None
    since: float = 0.0
    starts: int = 0
    version: str = ""
    stopping: bool = False

    @property
    def restarts(self) -> int:
        """How many servers were started after the first."""
        return max(0, self.starts - 1)

    def is_up(self, handle: ServerHandle) -> bool:
        """Whether this server is still the present one, and its process lives."""
        return self.handle is handle and handle.running()
