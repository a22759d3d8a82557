"""How hard a server is asked: so many requests at once, or so many each second."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modelport.errors import UsageError

CONCURRENCY, REQUEST_RATE = "concurrency", "request_rate"
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_RANGE = re.compile(rf"({_NUMBER}):({_NUMBER})(?::({_NUMBER}))?")
_LIST = re.compile(rf"{_NUMBER}(?:,{_NUMBER})*")
_MOST = 100  # measurements of one thing; a slip such as 1:10000:1 would take a day


@dataclass(frozen=True, kw_only=True)
class Load:
    """One load.

    Attributes:
        kind: `concurrency`: so many requests are on the way all the time. `request_rate`: so many are sent each second,
            whether the answers come or not.
        value: How many.
    """

    kind: str
    value: float

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')} {self.value:g}"


def loads(*, concurrency: str | None, request_rate: str | None) -> list[Load]:
    """The loads that were asked for, each once, in the order of their size.

    Args:
        concurrency: `4`, `1,4,16`, `1:32` (each twice the one before) or `1:32:4` (each 4 more); whole numbers.
        request_rate: The same, requests per second; fractions too.

    Raises:
        UsageError: They are no numbers, or too many, or both or none were given.
    """
    if (concurrency is None) == (request_rate is None):
        raise UsageError(
            "either --concurrency or --request-rate must be given, not both",
            why="one fixes how many requests are on the way, the other how many are sent each second",
            fix="leave one of them out",
        )
    kind, text = (CONCURRENCY, concurrency) if concurrency is not None else (REQUEST_RATE, request_rate)
    values = _values((text or "").replace(" ", ""))
    good = values and all(value > 0 and (kind == REQUEST_RATE or value == int(value)) for value in values)
    if not good or len(values) > _MOST:
        raise UsageError(
            f"--{kind.replace('_', '-')} {text!r} cannot be used",
            why=f"it names {len(values)} loads; at most {_MOST} can be measured" if good else "it is no list or range",
            fix="give 8, or 1,4,16, or 1:32 (doubled each time), or 1:32:4 (4 more each time)",
        )
    return [Load(kind=kind, value=value) for value in values]


def _values(text: str) -> Sequence[float]:
    if _LIST.fullmatch(text):
        return sorted({float(word) for word in text.split(",")})
    found = _RANGE.fullmatch(text)
    if not found:
        return []
    first, last = float(found[1]), float(found[2])
    step = float(found[3]) if found[3] else None
    if first <= 0 or last < first or step == 0:
        return []
    return [value for _, value in zip(range(_MOST + 1), _steps(first, last, step), strict=False)]


def _steps(first: float, last: float, step: float | None) -> Iterator[float]:
    """From the first to the last, which is always among them when the steps are doublings."""
    value = first
    while value < last:
        yield value
        value = value * 2 if step is None else value + step
    if step is None or value == last:
        yield last
