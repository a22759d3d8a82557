"""LitServe, Lightning's server, with batching."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from modelport.server import ports
from peers.job import LAYOUTS, SERVICES, TRIED, Job, Serving, as_json, base64_of, from_base64, serve

TITLE = "LitServe"
PACKAGES = ("litserve", "onnxruntime", "numpy", "fastapi", "uvicorn", "uvloop", "pyzmq")
SETUPS = tuple(LAYOUTS)
CHOOSE = True
SERVER = "docstrings of LitServer and LitServer.run: https://github.com/Lightning-AI/LitServe/blob/main/src/litserve/server.py"
SETTINGS = {
    "`max_batch_size` 32, `batch_timeout` 1 ms": "https://lightning.ai/docs/litserve/features/batching",
    f"`workers_per_device` and `num_api_servers`: the best of {TRIED}": SERVER,
    "`fast_queue`, for more than 100 requests per second": SERVER,
    "base64 in JSON, read in `decode_request`, written in `encode_response`": "https://lightning.ai/docs/litserve/api-reference/litapi",
}


@contextlib.contextmanager
def start(job: Job, setup: str) -> Iterator[Serving]:
    """Serve the job."""
    port = ports.choose("127.0.0.1", {"HTTP": 0})["HTTP"]
    workers, _ = job.layout(setup)
    env = job.env(setup, api_servers=workers, batch=32, delay_s=0.001, port=port)
    way = as_json(job, "/predict", lambda row: {"data": base64_of(row)}, lambda a: from_base64(a["result"]))
    serving = Serving(url=f"http://127.0.0.1:{port}", ways={f"{TITLE}, base64, {setup}": way})
    with serve(job, [str(job.python), str(SERVICES / "litserve_app.py")], env, serving) as up:
        yield up
