"""Starts and stops the service that the embedded server is compared with."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from modelport._process import Child, wait_until
from modelport.errors import ServerTimeoutError
from modelport.server import ports

# Names only: the application's module imports FastAPI and ONNX Runtime, which this process does not need.
_APPLICATION = "modelport.bench.fastapi_app:create"
MODEL_VARIABLE = "MODELPORT_BENCH_MODEL"
THREADS_VARIABLE = "MODELPORT_BENCH_THREADS"
_READY = "Application startup complete."  # uvicorn logs it once for each worker


@contextlib.contextmanager
def fastapi(model: Path, *, workers: int, threads: int, log: Path, timeout_s: float = 60.0) -> Iterator[str]:
    """FastAPI with ONNX Runtime under uvicorn, on loopback; gives its URL.

    Args:
        model: The ONNX file; one float32 input with the batch axis first.
        workers: Processes of uvicorn, each with a copy of the model.
        threads: ONNX Runtime's threads in each.
        log: Where its output goes.
        timeout_s: Seconds until all workers must be up.

    Raises:
        ServerTimeoutError: They were not.
    """
    port = ports.choose("127.0.0.1", {"HTTP": 0})["HTTP"]
    env = {**os.environ, MODEL_VARIABLE: str(model.resolve()), THREADS_VARIABLE: str(threads)}
    command = [sys.executable, "-m", "uvicorn", "--factory", _APPLICATION, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", str(workers), "--no-access-log", "--loop", "uvloop", "--http", "httptools"]
    log.unlink(missing_ok=True)
    with Child(command, log=log, env=env) as child:

        def ended_or_ready() -> bool:
            if child.returncode() is not None:
                return True
            # A single worker says so shortly before it listens.
            return child.log_tail(1000).count(_READY) >= workers and ports.answers("127.0.0.1", port)

        if not wait_until(ended_or_ready, timeout_s=timeout_s) or child.returncode() is not None:
            raise ServerTimeoutError(
                f"FastAPI with {workers} workers did not start",
                why=child.log_tail(10) or f"it said nothing for {timeout_s:g} s",
                fix="install the packages of modelport[dev]",
                timeout_s=timeout_s,
                log_tail=child.log_tail(),
            )
        yield f"http://127.0.0.1:{port}"
