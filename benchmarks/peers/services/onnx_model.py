"""The model as every peer runs it: ONNX Runtime's Python package on the processor, one request or many at once.

It is imported in the peers' own environments, and needs nothing but NumPy and ONNX Runtime.
"""

from __future__ import annotations

import os

import numpy as np
import onnxruntime

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(uint8)": np.uint8}
BATCH = int(os.environ.get("PEER_BATCH", "32"))
DELAY_S = float(os.environ.get("PEER_DELAY_S", "0"))
WORKERS = int(os.environ.get("PEER_WORKERS", "1"))


class Model:
    """The file that PEER_MODEL names, with PEER_THREADS threads in each operation (0: ONNX Runtime's own choice).

    Threads that wait spin, unless PEER_SPIN is 0.
    """

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("PEER_THREADS", "0"))
        options.add_session_config_entry("session.intra_op.allow_spinning", os.environ.get("PEER_SPIN", "1"))
        self.session = onnxruntime.InferenceSession(
            os.environ["PEER_MODEL"], sess_options=options, providers=["CPUExecutionProvider"]
        )
        (self.input, *_), (self.output, *_) = self.session.get_inputs(), self.session.get_outputs()
        self.type = TYPES[self.input.type]
        self.shape = tuple(size if isinstance(size, int) else -1 for size in self.input.shape[1:])

    def from_bytes(self, content: bytes) -> np.ndarray:
        """One request's row from the bytes of its array."""
        return np.frombuffer(content, dtype=self.type).reshape(self.shape)

    def from_list(self, values: list) -> np.ndarray:
        """One request's row from nested lists."""
        return np.asarray(values, dtype=self.type)

    def run(self, table: np.ndarray) -> np.ndarray:
        """The first output for a table of rows."""
        return self.session.run([self.output.name], {self.input.name: table})[0]

    def run_rows(self, rows: list[np.ndarray]) -> np.ndarray:
        """The same for rows that came one by one. Shorter ones are filled up with zeros, as the model allows."""
        if self.shape != (-1,):
            return self.run(np.stack(rows))
        table = np.zeros((len(rows), max(map(len, rows))), dtype=self.type)
        for number, row in enumerate(rows):
            table[number, : len(row)] = row
        return self.run(table)
