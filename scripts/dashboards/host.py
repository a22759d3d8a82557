"""The machine, its GPUs, and what the parts of the service take."""

from __future__ import annotations

from form import Dashboard, Panel
from queries import NO_GATEWAY, NO_GPU, RATE, YES

FRONT = '{envoy_http_conn_manager_prefix="front"}'
HOST = Dashboard(
    uid="modelport-host",
    title="modelport: host and GPU",
    text="What the machine has left: processors, memory, GPUs, and what the parts of the service take.",
    rows=[
        (
            "Machine",
            [
                Panel(
                    title="Processors",
                    text="Part of the machine's processors that is in use, as Triton sees it.",
                    unit="percentunit",
                    queries=[("max by (instance) (nv_cpu_utilization)", "{{instance}}")],
                ),
                Panel(
                    title="Memory",
                    text="Of the machine Triton runs on.",
                    unit="bytes",
                    queries=[
                        ("max by (instance) (nv_cpu_memory_used_bytes)", "used {{instance}}"),
                        ("max by (instance) (nv_cpu_memory_total_bytes)", "all {{instance}}"),
                    ],
                ),
                Panel(
                    title="Pinned memory",
                    text="Triton's pool for copies to and from GPUs. A full one makes copies slow.",
                    unit="bytes",
                    queries=[
                        ("sum by (instance) (nv_pinned_memory_pool_used_bytes)", "used {{instance}}"),
                        ("sum by (instance) (nv_pinned_memory_pool_total_bytes)", "all {{instance}}"),
                    ],
                ),
            ],
        ),
        (
            "GPU",
            [
                Panel(
                    title="GPU",
                    text="Part of the time in which the GPU computed.",
                    unit="percentunit",
                    width=6,
                    queries=[("max by (gpu_uuid) (nv_gpu_utilization)", "{{gpu_uuid}}")],
                    empty=NO_GPU,
                ),
                Panel(
                    title="GPU memory",
                    text="Used by models and their work. A full one fails loads, and so promotions.",
                    unit="bytes",
                    width=6,
                    queries=[
                        ("max by (gpu_uuid) (nv_gpu_memory_used_bytes)", "used {{gpu_uuid}}"),
                        ("max by (gpu_uuid) (nv_gpu_memory_total_bytes)", "all {{gpu_uuid}}"),
                    ],
                    empty=NO_GPU,
                ),
                Panel(
                    title="GPU power",
                    text="What it draws, and its limit: at the limit it slows down.",
                    unit="watt",
                    width=6,
                    queries=[
                        ("max by (gpu_uuid) (nv_gpu_power_usage)", "used {{gpu_uuid}}"),
                        ("max by (gpu_uuid) (nv_gpu_power_limit)", "limit {{gpu_uuid}}"),
                    ],
                    empty=NO_GPU,
                ),
                Panel(
                    title="Energy of an inference",
                    text="Joules that all GPUs took, for each row that was computed.",
                    unit="joule",
                    width=6,
                    queries=[
                        (
                            f"sum(rate(nv_energy_consumption{RATE})) / (sum(rate(nv_inference_count{RATE})) > 0)",
                            "joules",
                        )
                    ],
                    empty=NO_GPU,
                ),
            ],
        ),
        (
            "The service's parts",
            [
                Panel(
                    title="Processors by part",
                    text="`models`: processes that run models, as those in Python; other models run in `server`.",
                    unit="short",
                    stack="normal",
                    width=6,
                    queries=[(f"sum by (part) (rate(modelport_processes_cpu_seconds_total{RATE}))", "{{part}}")],
                ),
                Panel(
                    title="Memory by part",
                    text="One that grows for days is a leak. What processes share counts for each of them.",
                    unit="bytes",
                    width=6,
                    queries=[("sum by (part) (modelport_processes_memory_bytes)", "{{part}}")],
                ),
                Panel(
                    title="Connections of callers",
                    text="Open connections, and requests that are being answered, at the gateway.",
                    unit="short",
                    width=6,
                    queries=[
                        (f"sum(envoy_http_downstream_cx_active{FRONT})", "connections"),
                        (f"sum(envoy_http_downstream_rq_active{FRONT})", "requests"),
                    ],
                    empty=NO_GATEWAY,
                ),
                Panel(
                    title="Scrapes",
                    text="How long Prometheus took to read each page; `up` 0 means that it got none.",
                    unit="s",
                    width=6,
                    queries=[("max by (job) (scrape_duration_seconds)", "{{job}}")],
                ),
                Panel(
                    title="Pages that Prometheus reads",
                    text="no: the part is down, or its port is another one than Prometheus's configuration says.",
                    unit="none",
                    kind="state-timeline",
                    width=24,
                    height=6,
                    names=YES,
                    queries=[("min by (job) (up)", "{{job}}")],
                ),
            ],
        ),
    ],
)
