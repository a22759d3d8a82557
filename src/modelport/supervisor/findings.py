"""What the watcher finds in a repository that is served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


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


@dataclass(frozen=True, kw_only=True)
class Misplaced:
    """A model file or folder where no version is looked for."""

    model: str
    name: str
    reason: str


Finding: TypeAlias = Complete | Incomplete | Dangerous | Changed | Misplaced
