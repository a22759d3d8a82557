"""Processor time: what a server and its processes have used, and what the programs that this process ran have."""

from __future__ import annotations

import contextlib
import resource

import psutil


def tree_s(pid: int) -> float:
    """Processor seconds, in user and system mode, that a process and its living descendants have used so far.

    Args:
        pid: Number of the process.

    Raises:
        psutil.NoSuchProcess: There is none.
    """
    whole = psutil.Process(pid)
    used = 0.0
    for process in (whole, *whole.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # ended meanwhile
            times = process.cpu_times()
            used += times.user + times.system
    return used


def own_s() -> float:
    """Processor seconds that this process, its threads, and the programs that it ran to their ends have used."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in found)
