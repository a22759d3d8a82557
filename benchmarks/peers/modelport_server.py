"""modelport's embedded server, with the model as it was exported, and with an instance of it per core."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from modelport.bench import usage, variant
from modelport.bench.requests import triton_request
from modelport.repository import config as configs
from modelport.repository.layout import config_path
from modelport.server import EmbeddedServer
from modelport.spec import dtype_of
from peers.job import Job, Serving, Way, as_json

TITLE = "modelport"
PACKAGES = ("modelport", "nvidia-pytriton", "onnxruntime", "numpy")
PER_CORE = "an instance per core"
SETUPS = ("", PER_CORE)
CHOOSE = False
THREADS = "intra_op_thread_count"
TUNING = "[tuning.md](tuning.md)"
SETTINGS: dict[str, str] = {
    "none": "the model's config.pbtxt as `modelport export` writes it",
    f"or `instance_group` with an instance per core, `{THREADS}` 1": f"as the others' workers; {TUNING}",
}


def differs(job: Job, setup: str) -> bool:
    """Whether a setup serves the model otherwise than it was exported: that is not measured twice."""
    config = configs.read(config_path(job.repository, job.name))
    instances = sum(group.count for group in config.instance_group)
    threads = int(config.parameters[THREADS].string_value or max(1, job.cores // max(1, instances)))
    return (instances, threads) != (job.cores, 1) or setup != PER_CORE


@contextlib.contextmanager
def start(job: Job, setup: str) -> Iterator[Serving]:
    """Serve the job."""
    requests = [triton_request(job.name, {job.input: row[None]}, job.output) for row in job.rows]
    binary = Way(requests=requests, read=lambda content: np.frombuffer(content, dtype=np.float32))

    def body(row: np.ndarray) -> dict:
        tensor = {"name": job.input, "shape": [1, *row.shape], "datatype": dtype_of(row).triton}
        return {"inputs": [{**tensor, "data": row.ravel().tolist()}], "outputs": [{"name": job.output}]}

    lists = as_json(job, f"/v2/models/{job.name}/infer", body, lambda answer: answer["outputs"][0]["data"])
    ways = {", ".join(filter(None, [TITLE, way, setup])): how for way, how in (("binary", binary), ("JSON", lists))}
    repository = job.repository
    if setup == PER_CORE:
        target = job.folder / "repository"
        repository = variant.copy(job.repository, job.name, target, instance_count=job.cores, parameters={THREADS: "1"})
    server = EmbeddedServer(
        repository, models=[job.name], http_port=0, grpc_port=0, metrics_port=0, state_dir=job.folder
    )
    with server as up:
        yield Serving(url=up.http_url, ways=ways, used_s=lambda: usage.tree_s(up.pid))
