"""TorchServe 0.12, its last release: Java in front, Python workers behind."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

from modelport._process import run
from modelport.errors import EnvironmentUnfitError
from modelport.server import ports
from peers.job import LAYOUTS, SERVICES, TRIED, Job, Serving, raw, serve

TITLE = "TorchServe"
PACKAGES = ("torchserve", "torch", "onnxruntime", "numpy")
PINNED = "a worker per core, pinned"
SETUPS = (*LAYOUTS, PINNED)
CHOOSE = True
# https://pytorch.org/serve/configuration.html unless another page is named
CONFIG = """\
inference_address=http://127.0.0.1:{inference}
management_address=http://127.0.0.1:{management}
metrics_address=http://127.0.0.1:{metrics}
grpc_inference_address=127.0.0.1
grpc_management_address=127.0.0.1
grpc_inference_port={grpc_inference}
grpc_management_port={grpc_management}
model_store={folder}
load_models=peer.mar
disable_token_authorization=true
enable_envvars_config=false
async_logging=true
disable_system_metrics=true
"""
# https://pytorch.org/serve/performance_guide.html#torchserve-on-cpu
PINNING = """\
cpu_launcher_enable=true
cpu_launcher_args=--use_logical_core
"""
MODEL = """\
minWorkers: {workers}
maxWorkers: {workers}
batchSize: {batch}
maxBatchDelay: {delay_ms}
responseTimeout: 120
"""
GUIDE = "https://pytorch.org/serve/performance_guide.html"
SETTINGS = {
    "`batchSize` 32, `maxBatchDelay` 1 ms": "https://pytorch.org/serve/batch_inference_with_ts.html",
    f"`minWorkers`, `maxWorkers`: the best of {TRIED}, and one per core with `cpu_launcher_enable`": GUIDE,
    "ONNX Runtime instead of torch": GUIDE,
    "a handler of our own, raw bytes": "https://pytorch.org/serve/custom_service.html",
    "`async_logging`, no system metrics": "https://pytorch.org/serve/configuration.html",
    "no token": "https://pytorch.org/serve/token_authorization_api.html",
}


@contextlib.contextmanager
def start(job: Job, setup: str) -> Iterator[Serving]:
    """Serve the job.

    Raises:
        EnvironmentUnfitError: There is no Java.
    """
    if shutil.which("java") is None:
        raise EnvironmentUnfitError(
            "TorchServe cannot start", why="there is no java on PATH", fix="apt-get install default-jre-headless"
        )
    names = ("inference", "management", "metrics", "grpc_inference", "grpc_management")
    chosen = ports.choose("127.0.0.1", dict.fromkeys(names, 0))
    layout = setup.removesuffix(", pinned")
    workers, _ = job.layout(layout)
    settings = {"batch": 32, "delay_ms": 1, "workers": workers}
    (job.folder / "model.yaml").write_text(MODEL.format(**settings), encoding="utf-8")
    config = CONFIG.format(folder=job.folder, **chosen) + (PINNING if setup == PINNED else "")
    (job.folder / "config.properties").write_text(config, encoding="utf-8")
    archiver = [str(job.python.with_name("torch-model-archiver")), "--model-name", "peer", "--version", "1"]
    archiver += ["--handler", str(SERVICES / "torchserve_handler.py"), "--config-file", str(job.folder / "model.yaml")]
    run([*archiver, "--export-path", str(job.folder)], env=job.env(layout))
    command = [str(job.python.with_name("torchserve")), "--foreground", "--ncs", "--ts-config"]
    command += [str(job.folder / "config.properties"), "--disable-token-auth"]
    serving = Serving(
        url=f"http://127.0.0.1:{chosen['inference']}",
        ways={f"{TITLE}, raw bytes, {setup}": raw(job, "/predictions/peer")},
    )
    env = {**job.env(layout), "TEMP": str(job.folder)}
    with serve(job, command, env, serving) as up:
        yield up
