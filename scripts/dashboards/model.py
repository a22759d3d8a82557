"""One model."""

from __future__ import annotations

from form import BAD, GOOD, WARN, Dashboard, Panel, stat
from queries import (
    BY_VERSION,
    NO_GATEWAY,
    NO_TRAFFIC,
    NOBODY,
    RATE,
    REAL,
    REASONS,
    YES,
    answers,
    failed_part,
    mean_batch,
    per_request,
    quantiles,
)

ONE = 'model="$model"'
MODEL = Dashboard(
    uid="modelport-model",
    title="modelport: one model",
    text="What one model does: rates, latency, batches, where the time goes, its versions and their shares.",
    variables=[("model", f"label_values(nv_inference_request_success{{{REAL}}}, model)")],
    rows=[
        (
            "Now",
            [
                stat("Serving", "The version that callers get.", "none", f"max(modelport_serving_version{{{ONE}}})"),
                stat(
                    "Ready",
                    "Whether it answers as its source.",
                    "none",
                    f"min(modelport_model_ready{{{ONE}}})",
                    names=YES,
                ),
                stat(
                    "Waiting",
                    "Requests in its queue now.",
                    "short",
                    f"sum(nv_inference_pending_request_count{{{ONE}}})",
                ),
                stat(
                    "Failed",
                    "Part of the calls that failed through the service's fault.",
                    "percentunit",
                    failed_part(ONE),
                    steps=[(None, GOOD), (0.001, WARN), (0.01, BAD)],
                    empty=NOBODY,
                ),
                stat(
                    "p99 against its budget",
                    "Part of the latency budget that 99 of 100 calls keep to; above 100 % is too slow.",
                    "percentunit",
                    f"{quantiles('modelport_request_seconds', ONE)[2][0]}"
                    f" / max(modelport_latency_budget_seconds{{{ONE}}})",
                    steps=[(None, GOOD), (0.8, WARN), (1, BAD)],
                    empty="the model has no latency budget, or nobody asks",
                ),
                stat(
                    "Instances busy",
                    "How many of its instances compute, on average: near their number, it is at its limit.",
                    "short",
                    f"sum(rate(nv_inference_compute_infer_duration_us{{{ONE}}}{RATE})) / 1e6"
                    f" * sum(rate(nv_inference_exec_count{{{ONE}}}{RATE}))"
                    f" / clamp_min(sum(rate(nv_inference_request_success{{{ONE}}}{RATE})), {NO_TRAFFIC})",
                ),
            ],
        ),
        (
            "Rates and latency",
            [
                Panel(
                    title="Answers",
                    text="As callers see it, at the gateway.",
                    unit="reqps",
                    queries=answers(ONE),
                    empty=NOBODY,
                ),
                Panel(
                    title="Latency",
                    text="What callers see, from the first byte of the request to the last of the answer.",
                    unit="s",
                    queries=quantiles("modelport_request_seconds", ONE),
                    empty=f"nobody asks it, or {NO_GATEWAY}",
                ),
                Panel(
                    title="Spread of latency",
                    text="How many calls took how long: two bands are two kinds of requests, or of answers.",
                    unit="short",
                    kind="heatmap",
                    queries=[(f"sum by (le) (increase(modelport_request_seconds_bucket{{{ONE}}}{RATE}))", "")],
                    empty=f"nobody asks it, or {NO_GATEWAY}",
                ),
            ],
        ),
        (
            "In the server",
            [
                Panel(
                    title="Where the time goes",
                    text="Mean time of a request in Triton by its parts. Much queue: more instances or bigger batches.",
                    unit="µs",
                    stack="normal",
                    queries=[
                        (per_request("queue", ONE, "model"), "queue"),
                        (per_request("compute_input", ONE, "model"), "input"),
                        (per_request("compute_infer", ONE, "model"), "compute"),
                        (per_request("compute_output", ONE, "model"), "output"),
                    ],
                ),
                Panel(
                    title="Batch size",
                    text="Mean rows in a run, by version; 1 means that dynamic batching joins nothing.",
                    unit="short",
                    queries=[(mean_batch(ONE, "version"), BY_VERSION)],
                ),
                Panel(
                    title="Rows and runs",
                    text="Inferences, and the runs in which they were computed.",
                    unit="ops",
                    queries=[
                        (f"sum(rate(nv_inference_count{{{ONE}}}{RATE}))", "rows"),
                        (f"sum(rate(nv_inference_exec_count{{{ONE}}}{RATE}))", "runs"),
                    ],
                ),
                Panel(
                    title="Queue",
                    text="Requests that wait, by version.",
                    unit="short",
                    queries=[(f"sum by (version) (nv_inference_pending_request_count{{{ONE}}})", BY_VERSION)],
                ),
                Panel(
                    title="Failures in the server",
                    text=REASONS,
                    unit="reqps",
                    queries=[
                        (
                            f"sum by (version, reason) (rate(nv_inference_request_failure{{{ONE}}}{RATE}))",
                            "{{version}} {{reason}}",
                        )
                    ],
                ),
                Panel(
                    title="Golden request",
                    text="How long the last golden request of each version took: what one caller alone would wait.",
                    unit="s",
                    queries=[(f"max by (version) (modelport_probe_latency_seconds{{{ONE}}})", BY_VERSION)],
                ),
            ],
        ),
        (
            "Versions",
            [
                Panel(
                    title="Shares",
                    text="What part of the requests each version answers, golden requests included.",
                    unit="reqps",
                    stack="percent",
                    width=12,
                    queries=[(f"sum by (version) (rate(nv_inference_request_success{{{ONE}}}{RATE}))", BY_VERSION)],
                ),
                Panel(
                    title="Time in the server by version",
                    text="Mean time of a request in Triton: is the new version slower?",
                    unit="µs",
                    width=12,
                    queries=[(per_request("request", ONE, "version"), BY_VERSION)],
                ),
                Panel(
                    title="Serving and loaded",
                    text="1 while a version is loaded; the serving one is the number above.",
                    unit="none",
                    kind="state-timeline",
                    width=12,
                    names=[("1", "loaded", GOOD)],
                    queries=[(f"max by (version) (modelport_loaded{{{ONE}}})", BY_VERSION)],
                ),
                Panel(
                    title="Processes of its own",
                    text="Living processes that run it, and how often they were replaced.",
                    unit="short",
                    width=12,
                    queries=[
                        (f"sum by (version) (modelport_stubs{{{ONE}}})", BY_VERSION),
                        (f"sum by (result) (modelport_stub_restores_total{{{ONE}}})", "restored: {{result}}"),
                    ],
                    empty="it runs in the server's own process",
                ),
            ],
        ),
    ],
)
