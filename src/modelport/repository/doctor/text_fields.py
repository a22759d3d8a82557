"""Where in the text of a `config.pbtxt` each field stands: lines for messages, places for edits that keep comments.

protobuf's parser for Python tells no positions. This one reads only what that one has accepted already.
Format: https://protobuf.dev/reference/protobuf/textformat-spec/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)|(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
    r"""|(?P<word>[A-Za-z0-9_.+-]+)|(?P<mark>[{}<>\[\]:,;/])"""
)
_OPEN = {"{": "}", "<": ">"}
_SEPARATORS = (",", ";")


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field. Each element of `dims: [ 3, 4 ]` is a field of its own, with the same start and end.

    Attributes:
        name: Field name.
        value: A scalar as it is written, without quotes; empty for a message.
        line: Where it begins, from 1.
        start: Offset of the name's first letter in the text.
        end: Offset behind the value.
        inner: Offset behind a message's opening bracket; `end` for a scalar.
        fields: What is in a message.
    """

    name: str
    value: str
    line: int
    start: int
    end: int
    inner: int
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Token:
    text: str
    start: int
    line: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def quoted(self) -> bool:
        return self.text[0] in "\"'"


def parse(text: str) -> tuple[Field, ...]:
    """The fields of a text that protobuf has accepted; none when it cannot be followed all the same."""
    try:
        tokens = list(_tokens(text))
        fields, at = _fields(tokens, 0, "")
    except (ValueError, IndexError, RecursionError):
        return ()
    return tuple(fields) if at == len(tokens) else ()


def find(fields: Sequence[Field], *path: str) -> list[Field]:
    """All fields at a path of names, in the text's order."""
    found = [field for field in fields if field.name == path[0]]
    return found if len(path) == 1 else [inner for field in found for inner in find(field.fields, *path[1:])]


def entry(fields: Sequence[Field], name: str, key: str) -> Field | None:
    """The entry of a map, such as `parameters`, for a key."""
    for field in find(fields, name):
        if any(inner.value == key for inner in find(field.fields, "key")):
            return field
    return None


def _tokens(text: str) -> Iterator[_Token]:
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"line {line}")
        if match.lastgroup != "space":
            yield _Token(text=match[0], start=at, line=line)
        line += match[0].count("\n")
        at = match.end()


def _fields(tokens: Sequence[_Token], at: int, closing: str) -> tuple[list[Field], int]:
    """The fields from token `at` to a closing bracket or the end, and the number of that token."""
    found: list[Field] = []
    while at < len(tokens) and tokens[at].text != closing:
        if tokens[at].text in _SEPARATORS:
            at += 1
            continue
        name = tokens[at]
        at += 2 if tokens[at + 1].text == ":" else 1
        if tokens[at].text != "[":
            field, at = _value(tokens, at, name, name.line)
            found.append(field)
            continue
        elements: list[Field] = []
        at += 1
        while tokens[at].text != "]":
            if tokens[at].text in _SEPARATORS:
                at += 1
            else:
                field, at = _value(tokens, at, name, tokens[at].line)
                elements.append(field)
        found += [replace(field, end=tokens[at].end) for field in elements]
        at += 1
    return found, at


def _value(tokens: Sequence[_Token], at: int, name: _Token, line: int) -> tuple[Field, int]:
    first = tokens[at]
    if first.text in _OPEN:
        inner, close = _fields(tokens, at + 1, _OPEN[first.text])
        message = Field(
            name=name.text, value="", line=line, start=name.start, end=tokens[close].end, inner=first.end,
            fields=tuple(inner),
        )  # fmt: skip
        return message, close + 1
    parts = [first]
    while first.quoted and at + len(parts) < len(tokens) and tokens[at + len(parts)].quoted:
        parts.append(tokens[at + len(parts)])  # "one " "text"
    value = "".join(part.text[1:-1] if part.quoted else part.text for part in parts)
    end = parts[-1].end
    scalar = Field(name=name.text, value=value, line=line, start=name.start, end=end, inner=end)
    return scalar, at + len(parts)
