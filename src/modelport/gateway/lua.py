"""Values as Lua writes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def literal(value: Any) -> str:
    """A value as a Lua expression: None, booleans, numbers, texts, lists, and tables with texts as keys.

    Raises:
        TypeError: It holds anything else.
    """
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        if not math.isfinite(value):
            raise TypeError(f"{value} has no literal in Lua")
        return repr(value)
    if isinstance(value, str):
        return '"' + "".join(map(_letter, value.encode())) + '"'
    if isinstance(value, Mapping):
        return "{" + ",".join(f"[{literal(str(key))}]={literal(one)}" for key, one in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return "{" + ",".join(map(literal, value)) + "}"
    raise TypeError(f"{type(value).__name__} has no literal in Lua")


def _letter(byte: int) -> str:
    """A byte of a text; what is not a plain letter by its number, of three digits so that none can follow it."""
    plain = 32 <= byte < 127 and byte not in b'"\\'
    return chr(byte) if plain else f"\\{byte:03d}"
