"""A benchmark's file: raw values, and everything that made them. Summaries are computed from it, never stored alone."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from modelport import _cores
from modelport._process import run
from modelport.errors import ProcessError
from modelport.server.toolchain import NATIVE

NOT_COMPILED = "PYTHONDONTWRITEBYTECODE"
UNSTABLE = 0.25  # a spread of more than this part of the median says that the machine was not quiet


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Repeated measurements of one thing.

    Attributes:
        median: The middle value.
        low: The smallest.
        high: The largest.
    """

    median: float
    low: float
    high: float

    @property
    def unstable(self) -> bool:
        """Whether the values lie too far apart to be relied on."""
        return (self.high - self.low) > UNSTABLE * self.median

    def words(self, better: str, worse: str) -> str:
        """A ratio in words, never below 1: `1.20 x slower` for a median of 0.83."""
        return f"{self.median:.2f} x {better}" if self.median >= 1 else f"{1 / self.median:.2f} x {worse}"

    def range_words(self) -> str:
        """From where to where the values of such a ratio go, turned round where `words` turns it."""
        low, high = (self.low, self.high) if self.median >= 1 else (1 / self.high, 1 / self.low)
        return f"({low:.2f} to {high:.2f})"


def spread(values: Iterable[float]) -> Spread:
    """Median and range of at least one value."""
    seen = sorted(values)
    return Spread(median=statistics.median(seen), low=seen[0], high=seen[-1])


def environment() -> dict[str, str]:
    """The environment for a command whose time is taken: from its second run on it starts from compiled modules.

    So it does after an installation. Many containers tell Python not to keep them, and each start takes twice as long.
    """
    return {name: value for name, value in os.environ.items() if name != NOT_COMPILED}


def conditions(packages: Sequence[str]) -> dict[str, Any]:
    """Under which circumstances something is measured now.

    Args:
        packages: Names of the installed packages whose versions matter.

    Returns:
        The time, machine, versions, commit and command line, ready for JSON; and whether ONNX models run in the
        server's own process, as they do where a compiler was there when modelport was installed.
    """
    return {
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": _command(sys.argv),
        "commit": _commit(),
        "machine": _machine(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in packages}},
        "compiled_backend": NATIVE.is_file(),
    }


def write(path: Path, *, circumstances: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a result file; under a temporary name first, so that none is ever half there.

    Args:
        path: The JSON file; its folder is made.
        circumstances: What `conditions` gave before the measurement.
        rows: One mapping for each measurement, in the order of time.
    """
    text = json.dumps({**circumstances, "load_average_after": os.getloadavg(), "rows": list(rows)}, indent=1)
    replace(path, text + "\n")


def replace(path: Path, text: str) -> None:
    """Write a file under a temporary name, then put it in its place; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def _command(argv: Sequence[str]) -> list[str]:
    """The command line as anyone would type it."""
    program, rest = Path(argv[0]), _relative(argv[1:])
    if program.name == "modelport":
        return ["modelport", *rest]
    if program.parts[-2:] == ("modelport", "__main__.py"):
        return ["python", "-m", "modelport", *rest]
    return ["python", *_relative(argv[:1]), *rest]


def _relative(words: Sequence[str]) -> list[str]:
    """The words of a command line without the folders of this machine."""
    return [os.path.relpath(word) if os.path.isabs(word) else word for word in words]  # noqa: PTH117


def _commit() -> str:
    try:
        changed = run(["git", "status", "--porcelain", "--untracked-files=no"])
        return run(["git", "rev-parse", "HEAD"]).strip() + (" with changes" if changed.strip() else "")
    except ProcessError:
        return "unknown: not in a git checkout"


def _machine() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next((line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")), "")
    return {
        "cpu": model or platform.machine(),
        "cores": _cores.usable(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "load_average_before": os.getloadavg(),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
