"""The command line: parsing only. Each verb is a function in `modelport.commands` that does the work.

One module per group of verbs; importing it registers them, in the order in which the help shows them.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelport import _guard
from modelport.cli import exporting, registry, serving, asking  # noqa: F401, I001 - the order of the help
from modelport.cli.app import app


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors become a message and an exit code.

    Args:
        argv: Arguments without the program's name; those of the process when None.
    """
    words = None if argv is None else list(argv)
    return _guard.guarded(lambda: app(args=words, prog_name="modelport"), program="modelport")
