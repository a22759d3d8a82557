"""Amounts as people write them: `50/s`, `30d`, `100000`, `8MiB`. Each function says in a ValueError what is wrong.

`read` takes several options at once and tells all that is wrong with them together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from modelport.errors import ModelportError, UsageError

_SECONDS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_BYTES = {"": 1, "B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3}
_AMOUNT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)")
MAX_RATE_PER_S = 1e6
MAX_COUNT = 10**15
NONE = "none"


def rate(text: str) -> float:
    """Events per second: `50/s`, `1000/min`, `2.5/s`, `600/h`, `10000/d`."""
    amount, slash, unit = text.strip().partition("/")
    seconds, found = _SECONDS.get(unit), _AMOUNT.fullmatch(amount)
    if not slash or seconds is None or found is None or found[2]:
        raise ValueError(f"{text!r} is no rate; write for example 50/s, 1000/min or 600/h")
    per_s = float(found[1]) / seconds
    if not 0 < per_s <= MAX_RATE_PER_S:
        raise ValueError(f"{text!r} is no rate above 0 and up to {MAX_RATE_PER_S:g}/s")
    return per_s


def duration(text: str) -> float:
    """Seconds: `45s`, `15min`, `12h`, `30d`, `2w`, and `0`."""
    found = _AMOUNT.fullmatch(text.strip())
    if found is not None and not found[2] and float(found[1]) == 0:
        return 0.0
    if found is None or found[2] not in _SECONDS:
        raise ValueError(f"{text!r} is no length of time; write for example 45s, 15min, 12h or 30d")
    return float(found[1]) * _SECONDS[found[2]]


def count(text: str) -> int:
    """A whole number above 0."""
    digits = text.strip()
    if not re.fullmatch(r"[0-9]{1,15}", digits) or int(digits) == 0:
        raise ValueError(f"{text!r} is no whole number above 0")
    return int(digits)


def size(text: str) -> int:
    """Bytes: `1048576`, `500kB`, `8MiB`, `1GB`."""
    found = _AMOUNT.fullmatch(text.strip())
    if found is None or found[2].upper() not in _BYTES:
        raise ValueError(f"{text!r} is no size; write for example 8MiB, 500kB or 1048576")
    whole = math.floor(float(found[1]) * _BYTES[found[2].upper()])
    if not 1 <= whole <= MAX_COUNT:
        raise ValueError(f"{text!r} is no size from 1 byte on")
    return whole


def or_none(reader: Callable[[str], float]) -> Callable[[str], float | None]:
    """The same reader, for an option that `none` takes away."""
    return lambda text: None if text.strip().lower() == NONE else reader(text)


def read(given: Mapping[str, tuple[Callable[[str], object], str | None]]) -> dict[str, object]:
    """Read options that were given as text.

    Args:
        given: Option as the caller knows it, such as `--rate`, to its reader and its text; None where it was left out.

    Returns:
        The options that were given, as values.

    Raises:
        UsageError: All that cannot be read, together.
    """
    values: dict[str, object] = {}
    problems = []
    for option, (reader, text) in given.items():
        if text is None:
            continue
        try:
            values[option] = reader(text)
        except ValueError as error:
            problems.append(f"{option}: {error}")
        except ModelportError as error:
            problems.append(f"{option}: {error.what}: {error.why}")
    if problems:
        raise UsageError("these options cannot be", why="; ".join(problems), fix="correct them")
    return values


def as_rate(per_s: float) -> str:
    """A rate in words, in the unit that gives a whole number where one does: `50/s`, `1000/min`."""
    for unit in ("s", "min", "h", "d"):
        amount = per_s * _SECONDS[unit]
        if math.isclose(amount, round(amount), rel_tol=1e-9) and round(amount) > 0:
            return f"{round(amount)}/{unit}"
    return f"{per_s:g}/s"
