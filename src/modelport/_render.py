"""What the commands print: tables for people, JSON for scripts. Knows values, no verbs."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

LONG = 200  # rows
_FIGURE = re.compile(r"[\d.,]*%?")
_SPACES = "\n\t\N{NO-BREAK SPACE}\N{IDEOGRAPHIC SPACE}"
WIDTH_OF_A_FILE = 200  # columns, where output does not go to a terminal
OUT = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE)
ERR = Console(stderr=True, highlight=False, emoji=False)


def as_json(value: Any, *, line: bool = False) -> None:
    """Print dataclasses, arrays and paths as JSON; NaN and infinity are null. One line with `line`, or for each item
    of a long list."""
    if isinstance(value, list) and len(value) > LONG:
        items = ",\n".join(f"  {json.dumps(_plain(item), ensure_ascii=False)}" for item in value)
        print(f"[\n{items}\n]")  # noqa: T201
        return
    print(json.dumps(_plain(value), indent=None if line else 2, ensure_ascii=False))  # noqa: T201 - rich would wrap long lines


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, narrow: bool = False) -> None:
    """Print a table; numbers right, words left. A long one has no colours and no wrapped cells: it comes at once.

    With `narrow`, for many figures on a terminal: less between the columns, each word of a heading on its own line.
    """
    if len(rows) > LONG:
        print("\n".join(_plain_table(title, columns, rows)))  # noqa: T201 - rich takes a millisecond for each row
        return
    OUT.print(made_table(title, columns, rows, narrow=narrow))


def made_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, narrow: bool = False) -> Table:
    """The same, for something that shows it later."""
    made = Table(title=title or None, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    made.show_edge, made.pad_edge, made.collapse_padding = not narrow, not narrow, narrow
    for index, column in enumerate(columns):
        right = _numbers(rows, index) or (narrow and all(_FIGURE.fullmatch(str(row[index])) for row in rows))
        heading = "\n".join(column.split()) if narrow else column
        made.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(escape(_cell(value)) for value in row))
    return made


def lines(*texts: str) -> None:
    """Print lines as they are, never wrapped; letters that steer a terminal are shown as `?`."""
    for text in texts:
        OUT.print(escape(harmless(text)), soft_wrap=True)


def error(text: str) -> None:
    """The same on standard error."""
    ERR.print(escape(harmless(text)), soft_wrap=True)


def clear() -> None:
    """Begin at the top of an empty screen; nothing where output does not go to a terminal."""
    OUT.clear()


def event(line: str) -> None:
    """Print one line on standard error; letters that steer a terminal are shown as `?`."""
    sys.stderr.write("".join(c if c.isprintable() else "?" for c in line) + "\n")
    sys.stderr.flush()


def size(count: int) -> str:
    """Bytes in words, such as `44.7 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def _plain_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """The lines of a table as rich prints it where there is room."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    right = [_numbers(rows, index) for index in range(len(columns))]

    def line(words: Sequence[str]) -> str:
        blanks = [" " * (width - cell_len(word)) for word, width in zip(words, widths, strict=True)]
        padded = [b + word if r else word + b for word, b, r in zip(words, blanks, right, strict=True)]
        return f"  {'   '.join(padded)}".rstrip()

    rule = " " + ("─" if OUT.encoding.startswith("utf") else "-") * (sum(widths) + 3 * len(widths) - 1)
    return [*([title] if title else [""]), line(columns), rule, *map(line, cells), ""]


def _numbers(rows: Sequence[Sequence[object]], index: int) -> bool:
    return all(isinstance(row[index], (int, float)) for row in rows)


def harmless(text: str) -> str:
    """Files and servers that are not ours have a say in what is printed; what they say moves no cursor."""
    return "".join(c if c.isprintable() or c in _SPACES else "?" for c in text)


def _cell(value: object) -> str:
    """A cell on one line, in which nothing controls the terminal."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "" if value is None else str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # of numpy, which need not be loaded for it
        return _plain(value.tolist())
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value) if isinstance(value, Path) else value
