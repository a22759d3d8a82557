"""What happened to models and servers, one event a line, in `events.jsonl` of the state folder.

Commands and the supervisor write here; `modelport status` shows the latest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelport.repository.layout import state_folder

EVENTS_FILE = "events.jsonl"
MAX_BYTES = 1 << 20  # then the file becomes events.jsonl.1, and that one is gone


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that happened.

    Attributes:
        at: UTC time, ISO 8601 with milliseconds.
        kind: A word for programs, such as `promoted`, `rolled_back`, `drop_refused`, `stub_restored`.
        text: One line for people.
        model: Model name; empty where it concerns the whole server.
        version: Version number; None where it concerns no version.
        level: `info`, `warning` or `error`.
        facts: Values for programs, such as seconds.
    """

    at: str
    kind: str
    text: str
    model: str = ""
    version: int | None = None
    level: str = "info"
    facts: Mapping[str, object] = field(default_factory=dict)


def now() -> str:
    """The time as events carry it."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")


def event(
    kind: str, text: str, *, model: str = "", version: int | None = None, level: str = "info", **facts: object
) -> Event:
    """An event of this moment; the text becomes one line."""
    one_line = " ".join(text.split())
    return Event(at=now(), kind=kind, text=one_line, model=model, version=version, level=level, facts=facts)


def append(repository: Path, happened: Event) -> None:
    """Add an event to the file. A disk that is full does not stop what is being reported."""
    path = state_folder(repository) / EVENTS_FILE
    line = as_json(happened) + "\n"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > MAX_BYTES:
            path.replace(path.with_name(f"{EVENTS_FILE}.1"))
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


def latest(repository: Path, count: int) -> list[Event]:
    """The last `count` events, the oldest first; lines that are no events are left out."""
    path = state_folder(repository) / EVENTS_FILE
    found: deque[Event] = deque(maxlen=count)
    for file in (path.with_name(f"{EVENTS_FILE}.1"), path):
        with contextlib.suppress(OSError), file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                with contextlib.suppress(ValueError, TypeError):
                    found.append(Event(**json.loads(line)))
    return list(found)


def as_json(happened: Event) -> str:
    """One line of JSON."""
    return json.dumps(dataclasses.asdict(happened), ensure_ascii=False, default=str)


def as_text(happened: Event) -> str:
    """One line for people."""
    where = f"{happened.model}/{happened.version}" if happened.version else happened.model
    at = f"{happened.at.partition('+')[0]}Z"
    return " ".join(word for word in (at, happened.level, happened.kind, where, happened.text) if word)
