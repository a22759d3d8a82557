"""BentoML with adaptive batching."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from modelport.server import ports
from peers.job import SERVICES, Job, Serving, as_json, base64_of, serve

TITLE = "BentoML"
PACKAGES = ("bentoml", "onnxruntime", "numpy", "uvicorn", "uvloop", "httptools")
SETUPS = ("",)
SETTINGS: dict[str, str] = {}


@contextlib.contextmanager
def start(job: Job, setup: str) -> Iterator[Serving]:
    """Serve the job."""
    port = ports.choose("127.0.0.1", {"HTTP": 0})["HTTP"]
    command = [str(job.python.with_name("bentoml")), "serve", "bentoml_service:Service", "--working-dir", str(SERVICES)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    env = job.env(threads=1, workers=job.cores, batch=32, delay_s=60)
    env |= {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(job.folder / "home")}
    way = as_json(job, "/rows", lambda row: {"rows": [base64_of(row)]}, lambda answer: answer)
    serving = Serving(url=f"http://127.0.0.1:{port}", ways={f"{TITLE}, base64": way})
    with serve(job, command, env, serving) as up:
        yield up
