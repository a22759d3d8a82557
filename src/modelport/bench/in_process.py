"""The limit: the same ONNX file run by ONNX Runtime in this process, with nothing around it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelport.bench import usage
from modelport.convert.runtime import onnxruntime


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What one run saw.

    Attributes:
        batch: Rows of each run of the model.
        sessions: Sessions that ran side by side, each in a thread.
        threads: ONNX Runtime's threads in each session.
        rows_per_s: Rows of all sessions together.
        cpu_us_per_row: Microseconds of processor time for each row.
    """

    batch: int
    sessions: int
    threads: int
    rows_per_s: float
    cpu_us_per_row: float


def measure(
    model: Path, row: Mapping[str, np.ndarray[Any, Any]], *, batch: int, threads: int, seconds: float, sessions: int = 1
) -> Limit:
    """Run a model over and over, in ONNX Runtime's own settings but for the number of threads.

    Args:
        model: The ONNX file; every input has the batch axis first, where a run has more than one row.
        row: Input name -> array with one row.
        batch: Rows of each run.
        threads: ONNX Runtime's threads in each session.
        seconds: How long; a run that has begun is finished, and each session makes one at least.
        sessions: Sessions side by side.
    """
    feed = {name: np.concatenate([array] * batch) if batch > 1 else array for name, array in row.items()}
    opened = [_open(model, threads) for _ in range(sessions)]
    runs = [0] * sessions
    for session in opened:
        session.run(None, feed)

    def loop(number: int) -> None:
        while not runs[number] or time.perf_counter() < end:
            opened[number].run(None, feed)
            runs[number] += 1

    loops = [threading.Thread(target=loop, args=(number,)) for number in range(sessions)]
    used, began = usage.own_s(), time.perf_counter()
    end = began + seconds
    for thread in loops:
        thread.start()
    for thread in loops:
        thread.join()
    took, used = time.perf_counter() - began, usage.own_s() - used
    rows = sum(runs) * batch
    return Limit(
        batch=batch, sessions=sessions, threads=threads, rows_per_s=rows / took, cpu_us_per_row=1e6 * used / rows
    )


def _open(model: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, sess_options=options, providers=["CPUExecutionProvider"])
