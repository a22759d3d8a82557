"""Progress of long steps: a spinner on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console


@contextlib.contextmanager
def progress(console: Console, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Gives a function that shows what is being done now.

    Args:
        console: Where to show it; a spinner if it is a terminal, a line for each step if not.
        quiet: Show nothing.
    """
    if quiet:
        yield lambda _: None
    elif console.is_terminal:
        with console.status("starting") as status:
            yield lambda text: status.update(text)
    else:
        yield lambda text: console.print(text, markup=False, soft_wrap=True)
