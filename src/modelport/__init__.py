"""modelport: trained model in, verified and versioned service on NVIDIA Triton out.

Names are loaded when first used, so that a caller's machine needs neither torch nor onnx to use `Client`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from modelport._version import __version__
from modelport.errors import ModelportError
from modelport.spec import ModelSpec, TensorSpec

if TYPE_CHECKING:
    from modelport.client import AsyncClient, Client
    from modelport.commands.export import export
    from modelport.commands.serve import serve
    from modelport.lifecycle.change import promote, rollback

_LAZY = {
    "AsyncClient": "modelport.client",
    "Client": "modelport.client",
    "export": "modelport.commands.export",
    "promote": "modelport.lifecycle.change",
    "rollback": "modelport.lifecycle.change",
    "serve": "modelport.commands.serve",
}

__all__ = [
    "AsyncClient",
    "Client",
    "ModelSpec",
    "ModelportError",
    "TensorSpec",
    "__version__",
    "export",
    "promote",
    "rollback",
    "serve",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'modelport' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
