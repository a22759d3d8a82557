"""Watch a repository for version folders that are copied in. It decides nothing: it tells what it found."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

SETTLE_S = 10.0  # without any change, until a folder without a manifest counts as complete


@dataclass(frozen=True, kw_only=True)
class Complete:
    """A version folder was copied in, and nothing in it changes any more."""

    model: str
    version: int


@dataclass(frozen=True, kw_only=True)
class Incomplete:
    """A version folder was copied in and stays incomplete."""

    model: str
    version: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Dangerous:
    """A folder or file in a model's folder that must not reach Triton."""

    model: str
    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Changed:
    """The files of a published version are not what was published."""

    model: str
    version: int
    reason: str


Finding: TypeAlias = Complete | Incomplete | Dangerous | Changed


class Watcher:
    """Watches a repository.

    Args:
        repository: The model repository.
        settle_s: Seconds without any change, until a folder without a manifest counts as complete.
    """

    def __init__(self, repository: Path, *, settle_s: float = SETTLE_S) -> None:
        self.repository = repository
        self.settle_s = settle_s

    def run(self, found: Callable[[Finding], None], stop: threading.Event) -> None:
        """Call `found` for each finding until `stop` is set."""
        stop.wait()
