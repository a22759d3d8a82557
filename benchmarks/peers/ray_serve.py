"""Ray Serve with dynamic request batching."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from modelport.server import ports
from peers.job import SERVICES, Job, Serving, raw, serve

TITLE = "Ray Serve"
PACKAGES = ("ray", "onnxruntime", "numpy", "uvicorn", "uvloop", "httptools")
SETUPS = ("",)
SETTINGS: dict[str, str] = {}


@contextlib.contextmanager
def start(job: Job, setup: str) -> Iterator[Serving]:
    """Serve the job."""
    port = ports.choose("127.0.0.1", {"HTTP": 0})["HTTP"]
    env = job.env(
        threads=1, workers=1, batch=32, delay_s=0.001, port=port, cores=job.cores, cpus=1, folder=job.folder / "ray"
    )
    env |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
    serving = Serving(url=f"http://127.0.0.1:{port}", ways={f"{TITLE}, raw bytes": raw(job, "/")})
    with serve(job, [str(job.python), str(SERVICES / "ray_app.py")], env, serving) as up:
        yield up
