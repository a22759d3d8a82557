"""BentoML with adaptive batching."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from modelport.server import ports
from peers.job import LAYOUTS, SERVICES, TRIED, Job, Serving, as_json, base64_of, from_base64, serve

TITLE = "BentoML"
PACKAGES = ("bentoml", "onnxruntime", "numpy", "uvicorn", "uvloop", "httptools")
SETUPS = tuple(LAYOUTS)
CHOOSE = True
WORKERS = "https://docs.bentoml.com/en/latest/build-with-bentoml/parallelize-requests.html"
ADAPTIVE = "https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html"
LOGGING = "https://docs.bentoml.com/en/latest/build-with-bentoml/observability/logging.html"
TYPES = "https://docs.bentoml.com/en/latest/build-with-bentoml/iotypes.html#appendix"
SETTINGS = {
    "`batchable`, `max_batch_size` 32": ADAPTIVE,
    "`max_latency_ms` 60,000, its default: shorter, it answers 503 while it learns": ADAPTIVE,
    f"`workers`: the best of {TRIED}": WORKERS,
    "base64 in a list, there and back: tensors are lists of numbers in JSON, files are written to disk": TYPES,
    "uvloop and httptools installed, which its uvicorn then takes": "https://www.uvicorn.org/settings/#implementation",
    "no access log": LOGGING,
}


@contextlib.contextmanager
def start(job: Job, setup: str) -> Iterator[Serving]:
    """Serve the job."""
    port = ports.choose("127.0.0.1", {"HTTP": 0})["HTTP"]
    command = [str(job.python.with_name("bentoml")), "serve", "bentoml_service:Service", "--working-dir", str(SERVICES)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    env = job.env(setup, batch=32, delay_s=60)
    env |= {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(job.folder / "home")}
    way = as_json(job, "/rows", lambda row: {"rows": [base64_of(row)]}, lambda answer: from_base64(answer[0]))
    serving = Serving(url=f"http://127.0.0.1:{port}", ways={f"{TITLE}, base64, {setup}": way})
    with serve(job, command, env, serving) as up:
        yield up
