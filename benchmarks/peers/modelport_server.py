"""modelport's embedded server, with the model as it was exported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from modelport.bench import usage
from modelport.bench.requests import triton_request
from modelport.server import EmbeddedServer
from modelport.spec import dtype_of
from peers.job import Job, Serving, Way, as_json

TITLE = "modelport"
PACKAGES = ("modelport", "nvidia-pytriton", "onnxruntime", "numpy")
SETUPS = ("",)
CHOOSE = False
SETTINGS: dict[str, str] = {"none": "the model's config.pbtxt as `modelport export` writes it"}


@contextlib.contextmanager
def start(job: Job, setup: str) -> Iterator[Serving]:
    """Serve the job."""
    requests = [triton_request(job.name, {job.input: row[None]}, job.output) for row in job.rows]
    binary = Way(requests=requests, read=lambda content: np.frombuffer(content, dtype=np.float32))

    def body(row: np.ndarray) -> dict:
        tensor = {"name": job.input, "shape": [1, *row.shape], "datatype": dtype_of(row).triton}
        return {"inputs": [{**tensor, "data": row.ravel().tolist()}], "outputs": [{"name": job.output}]}

    lists = as_json(job, f"/v2/models/{job.name}/infer", body, lambda answer: answer["outputs"][0]["data"])
    ways = {f"{TITLE}, binary": binary, f"{TITLE}, JSON": lists}
    server = EmbeddedServer(
        job.repository, models=[job.name], http_port=0, grpc_port=0, metrics_port=0, state_dir=job.folder
    )
    with server as up:
        yield Serving(url=up.http_url, ways=ways, used_s=lambda: usage.tree_s(up.pid))
