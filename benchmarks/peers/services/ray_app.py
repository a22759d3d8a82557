"""Ray Serve: a deployment with dynamic request batching, on a Ray of its own that is stopped with it."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import ray
from onnx_model import BATCH, DELAY_S, WORKERS, Model
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(
    num_replicas=WORKERS,
    max_ongoing_requests=2 * BATCH,
    ray_actor_options={"num_cpus": float(os.environ["PEER_CPUS"])},
)
class Deployment:
    """https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html"""

    def __init__(self) -> None:
        self.model = Model()

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=DELAY_S)
    async def rows(self, rows: list[np.ndarray]) -> list[bytes]:
        """One answer for each request of the batch."""
        return [row.tobytes() for row in self.model.run_rows(rows)]

    async def __call__(self, request: Request) -> Response:
        """Raw bytes in, raw bytes out."""
        answer = await self.rows(self.model.from_bytes(await request.body()))
        return Response(answer, media_type="application/octet-stream")


def main() -> None:
    """Serve until SIGTERM."""
    ray.init(
        num_cpus=int(os.environ["PEER_CORES"]),
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=os.environ["PEER_FOLDER"],
        object_store_memory=80_000_000,
        log_to_driver=True,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PEER_PORT"])})
    serve.run(Deployment.bind(), logging_config={"enable_access_log": False})
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    stop.wait()
    ray.shutdown()


if __name__ == "__main__":
    main()
