"""Python names for tensors, and texts as Python writes them."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping, Sequence

LONGEST = 36
# What the annotations and bodies of the written classes name: an attribute of that name would hide it there.
_TAKEN = ("np", "NDArray", "Label", "LABELS", "str", "int", "float", "bool", "list", "len", "self", "best_labels")


def identifiers(names: Sequence[str], taken: Iterable[str] = _TAKEN) -> Mapping[str, str]:
    """A Python name for each name, no two alike, as near to it as may be.

    Args:
        names: Such as `image`, `x:0`, `class`.
        taken: Names that must not be given.
    """
    given: dict[str, str] = {}
    used = set(taken)
    for name in sorted(names, key=lambda one: not one.isidentifier()):
        word = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")[:LONGEST].rstrip("_")
        word = word if word and not word[0].isdigit() else f"t_{word}".rstrip("_")
        word = f"{word}_" if keyword.iskeyword(word) or word in used else word
        number, first = 2, word.rstrip("_")
        while word in used:
            word, number = f"{first}_{number}", number + 1
        used.add(word)
        given[name] = word
    return {name: given[name] for name in names}


def module(model: str) -> str:
    """What a model's client is called as a module, such as `digits_cnn_client`."""
    word = re.sub(r"\W+", "_", model, flags=re.ASCII).strip("_").lower()
    return f"{word if word and not word[0].isdigit() else f'model_{word}'}_client"


def literal(text: str) -> str:
    """A text as a Python expression, with the quotes that ruff would choose: those that need fewer escapes."""
    body = repr(f"'\"{text}")[4:-1].replace("\\'", "'")  # with both quotes in it, it is always between single ones
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + body.replace(quote, f"\\{quote}") + quote
