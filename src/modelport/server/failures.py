"""The errors with which the embedded server reports that it did not start, died, or did not load a model."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

from modelport.errors import ServerDiedError, ServerError, ServerTimeoutError

SILENT = "Triton gives no reason; its log may"


def died(code: int, tail: str, log: Path) -> ServerDiedError:
    """The process ended by itself.

    Args:
        code: Exit code; negative for a signal.
        tail: Last lines of its log.
        log: Its log file.
    """
    ended = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return ServerDiedError(
        f"the server ended with {ended}",
        why="its last lines were:\n" + tail,
        fix=f"the whole log is {log}",
        returncode=code,
        log_tail=tail,
    )


def too_slow(timeout_s: float, tail: str, log: Path) -> ServerTimeoutError:
    """It did not answer in time."""
    return ServerTimeoutError(
        f"the server did not answer within {timeout_s:g} s",
        why="it hangs, or the machine is busy; its last lines were:\n" + tail,
        fix=f"allow more time (start_timeout_s); the whole log is {log}",
        timeout_s=timeout_s,
        log_tail=tail,
    )


def none_loaded(failed: Mapping[str, str], log: Path) -> ServerError:
    """It runs, but not one of the wanted models does.

    Args:
        failed: Model name -> Triton's reason.
        log: Its log file.
    """
    return ServerError(
        f"none of the models loaded: {', '.join(failed)}",
        why="\n".join(f"{model}: {reason}" for model, reason in failed.items()),
        fix=f"correct them; the whole log is {log}",
    )


def not_loaded(model: str, reason: str) -> ServerError:
    """A load call failed, or did not lead to what the configuration asks for."""
    return ServerError(
        f"model {model!r} did not load",
        why=reason,
        fix="correct the model or its config.pbtxt and load it again; what was served before still is",
    )


def still_loading(model: str, timeout_s: float) -> ServerTimeoutError:
    """A load has not ended, and may go on."""
    return ServerTimeoutError(
        f"model {model!r} is still loading after {timeout_s:g} s",
        why="it is large, or it hangs",
        fix="look into the server's log; give it more time",
        timeout_s=timeout_s,
    )


def still_loaded(model: str, timeout_s: float) -> ServerTimeoutError:
    """An unload call was accepted, and versions of the model are still there."""
    return ServerTimeoutError(
        f"model {model!r} is still loaded after {timeout_s:g} s",
        why="a request in flight keeps it, or its stub hangs",
        fix="wait for the requests to end; restart the server if it stays",
        timeout_s=timeout_s,
    )
