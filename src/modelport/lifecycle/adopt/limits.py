"""Keep this process small: a hostile model file may ask for all memory, and the service beside it needs the machine."""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path

NICE = 10


def apply(memory_bytes: int) -> None:
    """Limit this process for good: memory, priority, no core file; the kernel ends it first when memory runs out.

    Args:
        memory_bytes: Most bytes of memory that it may have for itself; files that are mapped do not count.
    """
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = memory_bytes if most == resource.RLIM_INFINITY else min(memory_bytes, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # not everywhere allowed, and a courtesy only
        os.nice(NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
