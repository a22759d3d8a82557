"""A screen that is shown again and again until somebody presses `q`, and a terminal that is as before afterwards."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from modelport._render import harmless


class Screen:
    """The whole terminal.

    Args:
        live: What draws on it.
        keys: Where keys are read from; None where that is no terminal.
    """

    def __init__(self, live: Live, keys: int | None) -> None:
        self._live = live
        self._keys = keys

    @property
    def height(self) -> int:
        """Lines."""
        return self._live.console.height

    def show(self, lines: Sequence[str], tables: Sequence[Table]) -> None:
        """Draw lines of text, and tables below them; what has no room is left out."""
        texts = [Text.from_markup(escape(harmless(line)), overflow="ellipsis") for line in lines]
        for text in texts:
            text.no_wrap = True
        self._live.update(Group(*texts, *tables), refresh=True)

    def wait(self, seconds: float) -> bool:
        """Wait, and say whether to go on: not when `q` was pressed, or the terminal is gone."""
        waited = [] if self._keys is None else [self._keys]
        if not select.select(waited, [], [], seconds)[0]:
            return True
        assert self._keys is not None
        pressed = os.read(self._keys, 64)
        return bool(pressed) and b"q" not in pressed.lower()


@contextlib.contextmanager
def screen(console: Console) -> Iterator[Screen]:
    """Take the terminal, and give it back whatever happens; Ctrl-C ends it without an error."""
    with (
        contextlib.suppress(KeyboardInterrupt),
        _keys() as keys,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        yield Screen(live, keys)


@contextlib.contextmanager
def _keys() -> Iterator[int | None]:
    """Standard input, given key by key and not shown."""
    if not sys.stdin.isatty():
        yield None
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield fd
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
