"""BentoML: a service with adaptive batching."""

from __future__ import annotations

import base64

import bentoml
import numpy as np
from onnx_model import BATCH, DELAY_S, WORKERS, Model


@bentoml.service(workers=WORKERS, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Service:
    """https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html"""

    def __init__(self) -> None:
        self.model = Model()

    @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=int(1000 * DELAY_S))
    def rows(self, rows: list[str]) -> list[str]:
        """Rows as base64."""
        answers = self.model.run_rows([self.model.from_bytes(base64.b64decode(row)) for row in rows])
        return [base64.b64encode(answer).decode() for answer in answers]

    @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=int(1000 * DELAY_S))
    def tensor(self, rows: np.ndarray) -> np.ndarray:
        """Rows as nested lists."""
        return self.model.run(np.asarray(rows, dtype=self.model.type))
