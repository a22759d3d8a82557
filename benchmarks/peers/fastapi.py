"""FastAPI with ONNX Runtime under uvicorn: what most people write first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from modelport.server import ports
from peers.job import ASLEEP, Job, Serving, as_json, raw, serve

TITLE = "FastAPI"
PACKAGES = ("fastapi", "uvicorn", "uvloop", "httptools", "pydantic", "onnxruntime", "numpy")
SETUPS = ("1 worker", ASLEEP, "a worker per core")
CHOOSE = False
BYTES = "https://fastapi.tiangolo.com/advanced/path-operation-advanced-configuration/#custom-openapi-content-type"
THREADS = "https://onnxruntime.ai/docs/performance/tune-performance/threading.html"
SETTINGS = {
    "uvicorn with uvloop and httptools": "its faster choices: https://www.uvicorn.org/settings/#implementation",
    "no access log": "https://www.uvicorn.org/settings/#logging",
    "1 worker; or a worker per core": "https://fastapi.tiangolo.com/deployment/server-workers/",
    "a thread per core, which spins or sleeps while it waits; 1 in each of several workers": THREADS,
    "JSON as a pydantic model with a list": "https://fastapi.tiangolo.com/tutorial/body-nested-models/",
    "JSON answers with a return type": "its best performance: https://fastapi.tiangolo.com/advanced/custom-response/#json-performance",
    "raw bytes with `Request.body()`": BYTES,
    "no batching": "it has none",
}


@contextlib.contextmanager
def start(job: Job, setup: str) -> Iterator[Serving]:
    """Serve the job."""
    port = ports.choose("127.0.0.1", {"HTTP": 0})["HTTP"]
    workers, _ = job.layout(setup)
    command = [str(job.python), "-m", "uvicorn", "--factory", "fastapi_app:create", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", str(workers), "--no-access-log"]
    command += ["--loop", "uvloop", "--http", "httptools"]
    ways = {
        f"{TITLE}, raw bytes, {setup}": raw(job, "/raw"),
        f"{TITLE}, JSON, {setup}": as_json(job, "/json", lambda row: {"data": row.tolist()}, lambda a: a["result"]),
    }
    serving = Serving(url=f"http://127.0.0.1:{port}", ways=ways)
    with serve(job, command, job.env(setup), serving) as up:
        yield up
