"""MLServer, Seldon's server, with adaptive batching."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from modelport.server import ports
from peers.job import ASLEEP, LAYOUTS, Job, Serving, as_json, base64_of, from_base64, serve

TITLE = "MLServer"
PACKAGES = ("mlserver", "onnxruntime", "numpy", "uvicorn", "uvloop", "httptools")
BESIDE = "1 worker beside the server, threads sleep"
SETUPS = (*LAYOUTS, BESIDE)
CHOOSE = True
PARALLEL = "https://docs.seldon.ai/mlserver/user-guide/parallel-inference"
BINARY = "https://github.com/SeldonIO/MLServer/blob/master/mlserver/rest/endpoints.py"
SETTINGS_PAGE = "https://docs.seldon.ai/mlserver/api-reference/settings"
SETTINGS = {
    "`max_batch_size` 32, `max_batch_time` 1 ms": "https://docs.seldon.ai/mlserver/user-guide/adaptive-batching",
    "`parallel_workers`: the best of 0 whose threads spin or sleep, 0 with one thread, 1, one per core": PARALLEL,
    "a runtime of our own": "https://docs.seldon.ai/mlserver/user-guide/custom",
    "base64 in place of lists of numbers, there and back": "https://docs.seldon.ai/mlserver/user-guide/content-type#base64",
    "nothing but JSON over HTTP: tensors as raw bytes are read from gRPC alone": BINARY,
    "`debug` off, and with it the access log; `gzip_enabled` off": SETTINGS_PAGE,
}


@contextlib.contextmanager
def start(job: Job, setup: str) -> Iterator[Serving]:
    """Serve the job."""
    chosen = ports.choose("127.0.0.1", {"http_port": 0, "grpc_port": 0, "metrics_port": 0})
    layout = ASLEEP if setup == BESIDE else setup
    workers, _ = job.layout(layout)
    parallel = workers if workers > 1 or setup == BESIDE else 0  # 0: the model runs in the server's own process
    server = {"host": "127.0.0.1", **chosen, "debug": False, "parallel_workers": parallel, "gzip_enabled": False}
    model = {
        "name": "peer",
        "implementation": "mlserver_runtime.Runtime",
        "max_batch_size": 32,
        "max_batch_time": 0.001,
    }
    (job.folder / "settings.json").write_text(json.dumps(server), encoding="utf-8")
    (job.folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")

    def body(row: object) -> dict:
        tensor = {"name": job.input, "shape": [1, 1], "datatype": "BYTES", "parameters": {"content_type": "base64"}}
        return {"inputs": [{**tensor, "data": [base64_of(row)]}]}

    way = as_json(job, "/v2/models/peer/infer", body, lambda answer: from_base64(answer["outputs"][0]["data"][0]))
    serving = Serving(url=f"http://127.0.0.1:{chosen['http_port']}", ways={f"{TITLE}, base64, {setup}": way})
    command = [str(job.python.with_name("mlserver")), "start", str(job.folder)]
    with serve(job, command, job.env(layout), serving) as up:
        yield up
