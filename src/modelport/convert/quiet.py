"""Silence for the frameworks: they warn, log and print at length about their own deprecations.

What fails is raised, and reported by whoever called; nothing that matters to a user is only printed.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

LOGGERS = ("torch", "torch.onnx", "torch._guards", "torch._dynamo", "onnxscript", "onnx_ir", "absl")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings, log lines or prints of the frameworks inside; not for blocks that report progress."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    sink = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
