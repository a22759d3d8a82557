"""Start and control a Triton server: the embedded one, a child process on loopback.

Names are loaded when first used: a command that talks to a running server does not wait for what starts one.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelport.server.control import VersionState
    from modelport.server.embedded import EmbeddedServer
    from modelport.server.handle import ServerHandle

_LAZY = {"EmbeddedServer": "embedded", "ServerHandle": "handle", "VersionState": "control"}

__all__ = ["EmbeddedServer", "ServerHandle", "VersionState"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
