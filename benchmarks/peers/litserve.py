"""LitServe, Lightning's server, with batching."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from modelport.server import ports
from peers.job import LAYOUTS, SERVICES, Job, Serving, as_json, base64_of, serve

TITLE = "LitServe"
PACKAGES = ("litserve", "onnxruntime", "numpy", "fastapi", "uvicorn", "uvloop", "pyzmq")
SETUPS = tuple(LAYOUTS)
CHOOSE = True
SERVER = "https://lightning.ai/docs/litserve/api-reference/litserver"
SETTINGS = {
    "`max_batch_size` 32, `batch_timeout` 1 ms": "https://lightning.ai/docs/litserve/features/batching",
    "`workers_per_device` and `num_api_servers`: the best of 1, 1 with one thread, and one per core": SERVER,
    "`fast_queue`": "above 100 requests per second, says the docstring of litserve.LitServer",
    "base64 in JSON, read in `decode_request`": "https://lightning.ai/docs/litserve/api-reference/litapi",
}


@contextlib.contextmanager
def start(job: Job, setup: str) -> Iterator[Serving]:
    """Serve the job."""
    port = ports.choose("127.0.0.1", {"HTTP": 0})["HTTP"]
    workers, threads = job.layout(setup)
    env = job.env(
        threads=threads, workers=workers, api_servers=workers, batch=32, delay_s=0.001, port=port, fast_queue=1
    )
    way = as_json(job, "/predict", lambda row: {"data": base64_of(row)}, lambda answer: answer["result"])
    serving = Serving(url=f"http://127.0.0.1:{port}", ways={f"{TITLE}, base64, {setup}": way})
    with serve(job, [str(job.python), str(SERVICES / "litserve_app.py")], env, serving) as up:
        yield up
