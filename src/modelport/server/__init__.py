"""Start and control a Triton server: the embedded one, a child process on loopback."""

from __future__ import annotations

from modelport.server.control import VersionState
from modelport.server.embedded import EmbeddedServer
from modelport.server.handle import ServerHandle

__all__ = ["EmbeddedServer", "ServerHandle", "VersionState"]
