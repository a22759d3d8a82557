"""The only place that catches errors and turns them into messages and exit codes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

from modelport import _render
from modelport._version import __version__
from modelport.errors import UNEXPECTED_EXIT_CODE, ModelportError


def guarded(action: Callable[[], object], *, program: str) -> int:
    """Run an action; its errors become a message on standard error and an exit code.

    Args:
        action: What to do.
        program: Its name, in front of the message.
    """
    try:
        action()
    except ModelportError as exc:
        _render.ERR.print(f"{program}: {exc}", markup=False, soft_wrap=True)
        return exc.exit_code
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else 0 if exc.code is None else 1
    except KeyboardInterrupt:
        _render.ERR.print(f"{program}: stopped by Ctrl-C")
        return 130
    except BrokenPipeError:
        return 141
    except Exception as exc:
        _render.ERR.print(
            f"{program}: unexpected {type(exc).__name__}: {exc}\n"
            "  why: this is a defect of modelport, not of your input\n"
            f"  do:  report it with these lines (modelport {__version__}, Python {sys.version.split()[0]}):\n"
            f"{traceback.format_exc()}",
            markup=False,
            soft_wrap=True,
        )
        return UNEXPECTED_EXIT_CODE
    return 0
