"""Imports torch for a process that only runs TorchScript. To be imported before anything else that imports torch.

`torch._meta_registrations` tells torch the shapes of answers where a model is traced without data; nothing that runs
real data asks it. It is imported for that effect alone and takes a third of torch's own import, and 18 MB (torch 2.13).
An empty module stands in its place.
"""

from __future__ import annotations

import sys
from types import ModuleType

_UNUSED = "torch._meta_registrations"

if "torch" not in sys.modules:
    sys.modules[_UNUSED] = ModuleType(_UNUSED)
import torch  # noqa: E402, F401
