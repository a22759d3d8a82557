"""The command line: parsing only. Each verb is a function in `modelport.commands` that does the work.

One module per group of verbs; importing it registers them, in the order in which the help shows them.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelport import _guard
from modelport.cli.app import app

# In the order in which the help shows them.
# isort: off
import modelport.cli.exporting
import modelport.cli.optimising
import modelport.cli.versions
import modelport.cli.evaluating
import modelport.cli.dropping
import modelport.cli.registry
import modelport.cli.keeping
import modelport.cli.routes
import modelport.cli.doctoring
import modelport.cli.upgrading
import modelport.cli.serving
import modelport.cli.watching
import modelport.cli.scraping
import modelport.cli.gateway
import modelport.cli.asking
import modelport.cli.describing
import modelport.cli.keys
import modelport.cli.usage
import modelport.cli.capturing
import modelport.cli.benching
import modelport.cli.tuning
import modelport.cli.planning  # noqa: F401 - it registers its command
# isort: on


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors become a message and an exit code.

    Args:
        argv: Arguments without the program's name; those of the process when None.
    """
    words = None if argv is None else list(argv)
    return _guard.guarded(lambda: app(args=words, prog_name="modelport"), program="modelport")
