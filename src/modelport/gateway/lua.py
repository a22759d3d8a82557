"""Values as Lua writes them."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PART = 200  # entries of a table: LuaJIT takes 65,536 constants in one function, and a model has some twenty
_PLAIN = re.compile(r"[ !#-\[\]-~]*")


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
        return f'"{value}"' if _PLAIN.fullmatch(value) else '"' + "".join(map(_letter, value.encode())) + '"'
    if isinstance(value, Mapping):
        return "{" + ",".join(f"[{literal(str(key))}]={literal(one)}" for key, one in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return "{" + ",".join(map(literal, value)) + "}"
    raise TypeError(f"{type(value).__name__} has no literal in Lua")


def table(name: str, content: Mapping[str, Mapping[str, Any]]) -> str:
    """A local variable of that name with a table of tables, each of which may have any number of entries.

    Args:
        name: The variable.
        content: What it holds.

    Raises:
        TypeError: As `literal`.
    """
    lines = [f"local {name} = {literal({key: {} for key in content})}"]
    for key, entries in content.items():
        lines += [f"do local function fill(t) {part} end fill({name}[{literal(key)}]) end" for part in _parts(entries)]
    return "\n".join(lines)


def _parts(entries: Mapping[str, Any]) -> Iterator[str]:
    rest = iter(entries.items())
    while part := list(itertools.islice(rest, PART)):
        yield " ".join(f"t[{literal(str(key))}]={literal(value)}" for key, value in part)


def _letter(byte: int) -> str:
    """A byte of a text; what is not a plain letter by its number, of three digits so that none can follow it."""
    plain = 32 <= byte < 127 and byte not in b'"\\'
    return chr(byte) if plain else f"\\{byte:03d}"
