"""The `modelport` program, and `python -m modelport`."""

from __future__ import annotations

import sys


def run() -> None:
    """Run the command and leave with its exit code; also Ctrl-C while it is still being loaded."""
    try:
        from modelport.cli import main

        code = main()
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    run()
