"""Lines as the gateway logs them, and a repository whose log they are put into."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from modelport.gateway import access_log, private
from modelport.usage.answers import Told
from modelport.usage.counter import Counter
from modelport.usage.store import Store

NUMBERS = itertools.count()
LINE = {
    "flags": "-",
    "grpc_status": "",
    "inferences": "1",
    "kind": "infer",
    "model": "net",
    "passed": "1",
    "received_bytes": 10,
    "sent_bytes": 20,
    "status": 200,
    "tenant": "acme",
    "time": "2026-03-04T05:06:07.890Z",
    "us": "1500",
    "version": "1",
}


def make_line(**other: Any) -> bytes:
    return json.dumps({**LINE, "id": str(next(NUMBERS)), **other}).encode() + b"\n"


@dataclass
class Logged:
    """A repository with an access log."""

    root: Path
    statistics: list[dict[str, Any]] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return private.folder(self.root, "access.log")

    def write(self, *lines: bytes) -> None:
        with self.log.open("ab") as file:
            file.write(b"".join(lines))

    def put_aside(self) -> None:
        self.log.replace(access_log.aside(self.log))

    def count(self) -> None:
        """As a process does that has just started."""
        with Store(self.root) as store:
            Counter(self.root, store, lambda: self.statistics).take_in()

    def sums(self, *by: str, **only: Any) -> dict[str, Any]:
        with Store(self.root) as store:
            found = store.sums(by or ("tenant",), "2026-01-01", "2026-12-31", **only)
        return {"/".join(words): sums for words, sums in found}

    def told(self, since: str = "") -> Told:
        with Store(self.root) as store:
            return store.told(since)

    def answered(self) -> dict[str, int]:
        return {name: sums.answered for name, sums in self.sums().items()}


@pytest.fixture
def line() -> Callable[..., bytes]:
    """`line(tenant="acme", ...)`: a line of the access log; no two are equal."""
    return make_line


@pytest.fixture
def logged(tmp_path: Path) -> Logged:
    found = Logged(tmp_path / "model_repository")
    found.root.mkdir()
    found.log.parent.mkdir(parents=True)
    return found
