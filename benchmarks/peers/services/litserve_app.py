"""LitServe: an API with batching."""

from __future__ import annotations

import base64
import os

import litserve
import numpy as np
from onnx_model import BATCH, DELAY_S, WORKERS, Model


class Api(litserve.LitAPI):
    """https://lightning.ai/docs/litserve/features/batching"""

    def setup(self, device: str) -> None:
        """Load the model, in each worker."""
        self.model = Model()

    def decode_request(self, request: dict) -> np.ndarray:
        """A row as base64, or as nested lists."""
        data = request["data"]
        return self.model.from_bytes(base64.b64decode(data)) if isinstance(data, str) else self.model.from_list(data)

    def batch(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Left to `predict`, which fills short rows up."""
        return inputs

    def predict(self, rows: list[np.ndarray] | np.ndarray) -> np.ndarray:
        """The rows of a batch; a single row when batching is off."""
        return self.model.run_rows(rows) if isinstance(rows, list) else self.model.run(rows[None])[0]

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        """A row for each request."""
        return list(output)

    def encode_response(self, output: np.ndarray) -> dict[str, str]:
        """The row as base64."""
        return {"result": base64.b64encode(output).decode()}


if __name__ == "__main__":
    api = Api(max_batch_size=BATCH, batch_timeout=DELAY_S)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PEER_PORT"]),
        num_api_servers=int(os.environ["PEER_API_SERVERS"]),
        generate_client_file=False,
        log_level="warning",
    )
