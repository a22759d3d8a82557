"""How many cores this process may use. Every place that divides cores asks here.

It imports only the standard library: the Python-based Triton backends read the same file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

PROC = Path("/proc/self/cgroup")
SYS = Path("/sys/fs/cgroup")
_V2 = ("cpu.max",)
_V1 = ("cpu.cfs_quota_us", "cpu.cfs_period_us")


def usable(*, proc: Path = PROC, sys: Path = SYS) -> int:
    """Whole cores for this process: its affinity, and the CPU quota of its control group and of those above it.

    A quota of two and a half cores counts as two; less than one as one.

    Args:
        proc: The file that names the process's control groups, of version 1 or 2.
        sys: Where the control groups are mounted.
    """
    limits = [float(len(os.sched_getaffinity(0))), *quotas(proc=proc, sys=sys)]
    return max(1, int(min(limits)))


def quotas(*, proc: Path = PROC, sys: Path = SYS) -> list[float]:
    """The CPU quotas that hold for this process, in cores; empty where there is none.

    Args:
        proc: The file that names the process's control groups, of version 1 or 2.
        sys: Where the control groups are mounted.
    """
    try:
        lines = proc.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found: list[float] = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            found += _along(sys, path, _V2)
        elif "cpu" in controllers.split(","):
            found += _along(sys / "cpu", path, _V1)
    return found


def _along(root: Path, path: str, files: Sequence[str]) -> list[float]:
    """The quotas from a control group up to the root. In a container its own folder may be the root already."""
    found = []
    group = root / path.strip("/")
    for folder in (group, *group.parents):
        try:
            words = " ".join((folder / file).read_text(encoding="utf-8") for file in files).split()
        except OSError:
            words = []
        if len(words) == 2 and words[0] not in ("max", "-1") and int(words[1]) > 0:
            found.append(int(words[0]) / int(words[1]))
        if folder == root:
            break
    return found
