"""One load or unload of a model at a time, whichever process or thread asks.

A load and an unload of the same model at the same moment end Triton 2.51.0 with a segmentation fault, or hang (eight
threads that ask for both at random get there within a minute). Loads of different models, and loads beside loads, do
not. So each order holds a lock of its model in the folder of the server's start; the kernel frees it when its holder
dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from modelport.errors import ServerTimeoutError
from modelport.spec import TRIAL_SUFFIX, check_model_name

ORDERS = "orders"
_LOOK_S = 0.02


@contextlib.contextmanager
def alone(run: Path | None, model: str, *, timeout_s: float) -> Iterator[None]:
    """Wait until no other order on the model is under way, and keep others waiting.

    Args:
        run: Folder of the server's start; None for a server that has none, where nothing is locked.
        model: Model name; it becomes a file's.
        timeout_s: Seconds to wait.

    Raises:
        InvalidNameError: It is no model name.
        ServerTimeoutError: Another order was under way for `timeout_s`.
    """
    check_model_name(model.removesuffix(TRIAL_SUFFIX))
    lock = None if run is None else _open(run / ORDERS, model)
    if lock is None:
        yield
        return
    try:
        deadline = time.monotonic() + timeout_s
        while not _take(lock):
            if time.monotonic() >= deadline:
                raise ServerTimeoutError(
                    f"model {model!r} is being loaded or unloaded by somebody else for {timeout_s:g} s",
                    why="it is large, or it hangs",
                    fix="wait and try again; look into the server's log",
                    timeout_s=timeout_s,
                )
            time.sleep(_LOOK_S)
        yield
    finally:
        os.close(lock)


def _open(folder: Path, model: str) -> int | None:
    """The lock file; None where the start's folder is gone, and the server with it."""
    try:
        folder.mkdir(exist_ok=True)
        return os.open(folder / model, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None


def _take(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
