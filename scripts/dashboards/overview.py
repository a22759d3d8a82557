"""The service as a whole."""

from __future__ import annotations

from form import BAD, GOOD, WARN, Dashboard, Panel, stat
from queries import ASKED, NO_GATEWAY, NOBODY, RATE, REAL, REASONS, YES, answers, failed_part, per_request, quantiles

OVERVIEW = Dashboard(
    uid="modelport-overview",
    title="modelport: service",
    text="Is the service well, who asks it, and what do they get?",
    rows=[
        (
            "Now",
            [
                stat(
                    "Ready",
                    "Whether every serving version answers its golden request as its source did (`/readyz`).",
                    "none",
                    "min(modelport_ready)",
                    names=YES,
                ),
                stat(
                    "Alerts",
                    "How many alerts are firing; they are marked in red in the graphs.",
                    "short",
                    'count(ALERTS{alertstate="firing"}) or 0 * count(job:up:min)',
                    steps=[(None, GOOD), (1, BAD)],
                    empty="Prometheus has no rules",
                ),
                stat(
                    "Requests",
                    "Inference requests with a valid key; readiness and metadata are not counted.",
                    "reqps",
                    f"sum(rate({ASKED}{RATE}))",
                    empty=NO_GATEWAY,
                ),
                stat(
                    "Failed",
                    "Part of the requests that failed through the service's fault: 5xx, and its like over gRPC.",
                    "percentunit",
                    failed_part(),
                    steps=[(None, GOOD), (0.001, WARN), (0.01, BAD)],
                    empty=NOBODY,
                ),
                stat(
                    "p99",
                    "99 of 100 inferences took at most so long, from a request's first byte to the answer's last.",
                    "s",
                    quantiles("modelport_request_seconds")[2][0],
                    empty=f"nobody asks, or {NO_GATEWAY}",
                ),
                stat(
                    "Waiting",
                    "Requests in Triton's queues. A number that stays up means more is asked than can be computed.",
                    "short",
                    f"sum(nv_inference_pending_request_count{{{REAL}}})",
                ),
            ],
        ),
        (
            "Callers",
            [
                Panel(
                    title="Answers",
                    text="Refused: the caller's fault, beyond a limit, or given up. Failed: the service's fault.",
                    unit="reqps",
                    queries=answers(""),
                    empty=NOBODY,
                ),
                Panel(
                    title="Latency",
                    text="What callers see at the gateway, all models together.",
                    unit="s",
                    queries=quantiles("modelport_request_seconds"),
                    empty=f"nobody asks, or {NO_GATEWAY}",
                ),
                Panel(
                    title="Requests by tenant",
                    text="Inference requests with its keys; readiness and metadata are not counted.",
                    unit="reqps",
                    stack="normal",
                    queries=[(f"sum by (tenant) (rate({ASKED}{RATE}))", "{{tenant}}")],
                    empty=NO_GATEWAY,
                ),
            ],
        ),
        (
            "Models",
            [
                Panel(
                    title="Requests by model",
                    text="What Triton answered, golden requests included. An ensemble and its steps count each.",
                    unit="reqps",
                    width=6,
                    queries=[(f"sum by (model) (rate(nv_inference_request_success{{{REAL}}}{RATE}))", "{{model}}")],
                ),
                Panel(
                    title="Time in the server",
                    text="Mean time of a request in Triton, waiting included.",
                    unit="µs",
                    width=6,
                    queries=[(per_request("request", REAL, "model"), "{{model}}")],
                ),
                Panel(
                    title="Queue",
                    text="Requests that wait in Triton. Where they grow: more instances, bigger batches, or a limit.",
                    unit="short",
                    width=6,
                    queries=[(f"sum by (model) (nv_inference_pending_request_count{{{REAL}}})", "{{model}}")],
                ),
                Panel(
                    title="Failures in the server",
                    text=REASONS,
                    unit="reqps",
                    width=6,
                    queries=[
                        (
                            f"sum by (model, reason) (rate(nv_inference_request_failure{{{REAL}}}{RATE}))",
                            "{{model}} {{reason}}",
                        )
                    ],
                ),
                Panel(
                    title="What is served",
                    text="Wanted is what the configuration says. `ready` is 1 while the version answers as its source.",
                    unit="none",
                    kind="table",
                    width=12,
                    queries=[
                        ("max by (model) (modelport_wanted_version)", "wanted"),
                        ("max by (model) (modelport_serving_version)", "serving"),
                        ("min by (model) (modelport_model_ready)", "ready"),
                        ("max by (model) (modelport_probe_latency_seconds)", "golden request (s)"),
                    ],
                ),
                Panel(
                    title="Dropped versions with a problem",
                    text="Version folders that were copied in and not taken, or taken and not promoted, and lie there.",
                    unit="none",
                    kind="table",
                    width=12,
                    queries=[("max by (model, version, result, reason) (modelport_drop_problem)", "")],
                    empty="all that was copied in was taken",
                ),
            ],
        ),
        (
            "Care",
            [
                Panel(
                    title="Golden requests",
                    text="Whether the last golden request of each version was answered right.",
                    unit="none",
                    kind="state-timeline",
                    width=12,
                    names=YES,
                    queries=[(f"min by (model, version) (modelport_probe_success{{{REAL}}})", "{{model}} {{version}}")],
                ),
                Panel(
                    title="Events",
                    text="What the supervisor told: starts, deaths, promotions, rollbacks, keys, drops.",
                    unit="short",
                    queries=[("sum by (kind) (increase(modelport_events_total[$__rate_interval]))", "{{kind}}")],
                ),
                Panel(
                    title="Restarts",
                    text="How often a dead server or gateway was started again since the supervisor's start.",
                    unit="short",
                    kind="stat",
                    width=4,
                    height=4,
                    queries=[
                        ("sum(modelport_server_restarts_total)", "server"),
                        ("sum(modelport_gateway_restarts_total)", "gateway"),
                    ],
                    steps=[(None, GOOD), (1, WARN)],
                ),
                stat(
                    "Certificate",
                    "Until callers refuse the gateway's certificate. A development certificate is renewed by itself.",
                    "s",
                    "min(modelport_certificate_expiry_timestamp_seconds) - time()",
                    steps=[(None, BAD), (7 * 86400, WARN), (14 * 86400, GOOD)],
                    empty="the gateway speaks plain HTTP, or none runs",
                ),
            ],
        ),
    ],
)
