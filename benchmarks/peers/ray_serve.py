"""Ray Serve with dynamic request batching."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from modelport.server import ports
from peers.job import LAYOUTS, SERVICES, TRIED, Job, Serving, raw, serve

TITLE = "Ray Serve"
PACKAGES = ("ray", "onnxruntime", "numpy", "uvicorn", "uvloop", "httptools")
SETUPS = tuple(LAYOUTS)
CHOOSE = True
BATCHING = "https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html"
HAPROXY = "https://github.com/ray-project/ray/blob/master/doc/source/serve/advanced-guides/haproxy-guide.md"
TUNING = "https://docs.ray.io/en/latest/serve/advanced-guides/performance.html"
SETTINGS = {
    "`serve.batch` with `max_batch_size` 32, `batch_wait_timeout_s` 1 ms": BATCHING,
    "`max_ongoing_requests` above the batch size": f"{TUNING}#using-async-methods",
    f"`num_replicas`: the best of {TRIED}": "https://docs.ray.io/en/latest/serve/configure-serve-deployment.html",
    "`RAY_SERVE_THROUGHPUT_OPTIMIZED=1`": f"{TUNING}#enable-throughput-optimized-flags",
    "a single replica is asked at its own port, as HAProxy would": HAPROXY,
    "several are asked through HAProxy, which we start with Ray's values: Ray's would listen on every address": HAPROXY,
    "raw bytes with `Request.body()`": "https://docs.ray.io/en/latest/serve/http-guide.html",
    "no access log": "https://docs.ray.io/en/latest/serve/api/doc/ray.serve.schema.LoggingConfig.html",
}


@contextlib.contextmanager
def start(job: Job, setup: str) -> Iterator[Serving]:
    """Serve the job. A single replica is asked at its own port, as HAProxy would; several through HAProxy."""
    chosen = ports.choose("127.0.0.1", {"proxy": 0, "replica": 0, "haproxy": 0})
    workers, _ = job.layout(setup)
    env = job.env(setup, batch=32, delay_s=0.001, port=chosen["proxy"], cores=job.cores)
    env |= {
        "PEER_CPUS": str(job.cores / workers / 2),
        "PEER_FOLDER": str(job.folder / "ray"),
        "PEER_HAPROXY": str(chosen["haproxy"]),
    }
    env |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
    env["RAY_raylet_start_wait_time_s"] = "100"  # instead of 30: on a machine that is busy with other things
    env["RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT"] = str(chosen["replica"])
    env["RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT"] = str(chosen["replica"] + 10)
    door = "replica" if workers == 1 else "haproxy"
    ways = {f"{TITLE}, raw bytes, {setup}": raw(job, "/")}
    serving = Serving(url=f"http://127.0.0.1:{chosen[door]}", ways=ways)
    with serve(job, [str(job.python), str(SERVICES / "ray_app.py")], env, serving) as up:
        yield up
