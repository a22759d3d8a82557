"""LitServe, Lightning's server, with batching."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from modelport.server import ports
from peers.job import SERVICES, Job, Serving, as_json, base64_of, serve

TITLE = "LitServe"
PACKAGES = ("litserve", "onnxruntime", "numpy", "fastapi", "uvicorn", "uvloop", "pyzmq")
SETUPS = ("",)
SETTINGS: dict[str, str] = {}


@contextlib.contextmanager
def start(job: Job, setup: str) -> Iterator[Serving]:
    """Serve the job."""
    port = ports.choose("127.0.0.1", {"HTTP": 0})["HTTP"]
    env = job.env(threads=1, workers=1, batch=32, delay_s=0.001, port=port, api_servers=1, fast_queue=1)
    way = as_json(job, "/predict", lambda row: {"data": base64_of(row)}, lambda answer: answer["result"])
    serving = Serving(url=f"http://127.0.0.1:{port}", ways={f"{TITLE}, base64": way})
    with serve(job, [str(job.python), str(SERVICES / "litserve_app.py")], env, serving) as up:
        yield up
