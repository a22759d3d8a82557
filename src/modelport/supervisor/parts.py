"""What the processes of a service take: the server, those of its models, the gateway, the supervisor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psutil

SUPERVISOR = "supervisor"
# Beginnings of names, of which the kernel keeps 15 letters, and what these processes are.
_PROGRAMS = {"tritonserver": "server", "triton_python_b": "models", "envoy": "gateway"}


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What the processes of one part take together.

    Attributes:
        processes: How many there are.
        memory_bytes: Memory that is in use; what several of them share counts for each.
        cpu_s: Processor seconds since they were started.
    """

    processes: int
    memory_bytes: int
    cpu_s: float


def taken() -> Mapping[str, Taken]:
    """By part: this process and those that it started, and these in turn."""
    own = psutil.Process()
    found: dict[str, list[tuple[int, float]]] = {SUPERVISOR: [], **{part: [] for part in _PROGRAMS.values()}}
    for process in (own, *own.children(recursive=True)):
        part = SUPERVISOR if process == own else _part(process)
        if part is None:
            continue
        try:
            with process.oneshot():
                times = process.cpu_times()
                found[part].append((process.memory_info().rss, times.user + times.system))
        except psutil.Error:
            continue  # it has just ended
    return {
        part: Taken(processes=len(each), memory_bytes=sum(one[0] for one in each), cpu_s=sum(one[1] for one in each))
        for part, each in found.items()
        if each
    }


def _part(process: psutil.Process) -> str | None:
    try:
        name = process.name()
    except psutil.Error:
        return None
    return next((part for beginning, part in _PROGRAMS.items() if name.startswith(beginning)), None)
