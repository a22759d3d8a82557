"""The limit: the same model run in a process of its own, by ONNX Runtime and by torch, with nothing around it.

Started by `measure` as `python limit.py MODEL ROWS SECONDS CORES`, so that neither library's threads stay behind.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BATCHES = (1, 8, 32)
BENCHMARKS = Path(__file__).resolve().parents[1]


def measure(model: Path, rows: tuple[np.ndarray, ...], *, seconds: float, cores: int) -> list[dict[str, Any]]:
    """Rows per second for both libraries, one thread and all, batches of 1, 8 and 32.

    Args:
        model: The ONNX file.
        rows: The requests' rows; where their lengths differ, shorter ones are filled up with zeros in a batch.
        seconds: Length of each measurement.
        cores: What "all threads" is.
    """
    from modelport._process import run
    from modelport.bench import results

    with tempfile.TemporaryDirectory(prefix="modelport-limit-") as folder:
        file = Path(folder, "rows.npz")
        np.savez(file, *rows)
        command = [sys.executable, __file__, str(model), str(file), str(seconds), str(cores)]
        output = run(command, timeout_s=600.0, env={**results.environment(), "PYTHONPATH": str(BENCHMARKS)})
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def tables(rows: list[np.ndarray], batch: int) -> list[np.ndarray]:
    """The rows in batches; as many of them as there are, so that lengths are mixed as in the requests."""
    made = []
    for first in range(0, max(len(rows), batch), batch):
        chosen = [rows[(first + number) % len(rows)] for number in range(batch)]
        size = max(row.shape[0] for row in chosen)
        made.append(np.stack([np.pad(row, [(0, size - len(row)), *[(0, 0)] * (row.ndim - 1)]) for row in chosen]))
    return made


def rate(calls: list[Callable[[], Any]], batch: int, seconds: float) -> float:
    """Rows per second of calling the functions in turns."""
    for call in calls:
        call()
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        calls[done % len(calls)]()
        done += 1
    return done * batch / (time.perf_counter() - began)


def with_onnxruntime(model: Path, given: list[np.ndarray], threads: int) -> list[Callable[[], Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, sess_options=options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return [lambda table=table: session.run(None, {name: table})[0] for table in given]


def with_torch(model: Path, given: list[np.ndarray], threads: int) -> list[Callable[[], Any]]:
    import torch

    from peers.onnx_in_torch import traced

    torch.set_num_threads(threads)
    by_shape = {table.shape: traced(model, table) for table in {table.shape: table for table in given}.values()}
    return [lambda table=table: by_shape[table.shape](torch.from_numpy(table)).numpy() for table in given]


LIBRARIES = {"ONNX Runtime": with_onnxruntime, "torch": with_torch}


def main(model: Path, rows: list[np.ndarray], seconds: float, cores: int) -> None:
    for threads in dict.fromkeys((1, cores)):
        for batch in BATCHES:
            given = tables(rows, batch)
            answers = {}
            for library, prepare in LIBRARIES.items():
                calls = prepare(model, given, threads)
                answers[library] = calls[0]()
                found = rate(calls, batch, seconds)
                print(json.dumps({"library": library, "threads": threads, "batch": batch, "rows_per_s": found}))
            np.testing.assert_allclose(answers["torch"], answers["ONNX Runtime"], rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    with np.load(sys.argv[2]) as stored:
        main(Path(sys.argv[1]), [stored[name] for name in stored.files], float(sys.argv[3]), int(sys.argv[4]))
