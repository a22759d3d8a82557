"""The only place that catches errors and turns them into messages and exit codes."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator

from modelport import _render
from modelport._version import __version__
from modelport.errors import UNEXPECTED_EXIT_CODE, EnvironmentUnfitError, ModelportError

_PACKAGES_OF_EXTRA = {
    "export": ("torch", "keras", "h5py", "onnx", "onnxruntime", "onnxscript", "safetensors"),
    "gateway": ("envoy", "jwt", "cryptography"),
    "server": ("pytriton", "prometheus_client", "watchfiles"),
    "bench": ("jinja2", "matplotlib"),
    "samples": ("sklearn", "PIL", "pandas", "pyarrow"),
}


def guarded(action: Callable[[], object], *, program: str) -> int:
    """Run an action; its errors become a message on standard error and an exit code.

    Args:
        action: What to do.
        program: Its name, in front of the message.
    """
    try:
        with _signals_exit():
            action()
    except ModelportError as exc:
        _render.error(f"{program}: {exc}")
        return exc.exit_code
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else 0 if exc.code is None else 1
    except KeyboardInterrupt:
        _render.error(f"{program}: stopped by Ctrl-C")
        return 130
    except BrokenPipeError:
        return 141
    except Exception as exc:
        missing = _missing_package(exc)
        if missing is not None:
            _render.error(f"{program}: {missing}")
            return missing.exit_code
        _render.error(
            f"{program}: unexpected {type(exc).__name__}: {exc}\n"
            "  why: this is a defect of modelport, not of your input\n"
            f"  do:  report it with these lines (modelport {__version__}, Python {sys.version.split()[0]}):\n"
            f"{traceback.format_exc()}"
        )
        return UNEXPECTED_EXIT_CODE
    return 0


@contextlib.contextmanager
def _signals_exit() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a closed terminal, become `SystemExit`, so that what was started is stopped.

    A SIGHUP that is ignored (`nohup`) stays so. Only the main thread can set that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda which, _: sys.exit(128 + which)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _missing_package(exc: Exception) -> EnvironmentUnfitError | None:
    """The error for a package of an extra that is not installed; None for any other exception."""
    if not isinstance(exc, ModuleNotFoundError):
        return None
    package = (exc.name or "").partition(".")[0]
    for extra, packages in _PACKAGES_OF_EXTRA.items():
        if package in packages:
            return EnvironmentUnfitError(
                f"the Python package {package!r} is not installed",
                why=f"this command needs what comes with modelport's extra {extra!r}",
                fix=f"pip install 'modelport[{extra}]'",
            )
    return None
