"""One tenant."""

from __future__ import annotations

from form import BAD, GOOD, WARN, Dashboard, Panel, stat
from queries import ASKED, NO_LIMIT, NOBODY, RATE, answers, failed_part, quantiles

WHO = 'tenant="$tenant"'
TENANT = Dashboard(
    uid="modelport-tenant",
    title="modelport: one tenant",
    text="What one tenant asks, what it gets, and what is left of its quota.",
    variables=[("tenant", f"label_values({ASKED}, tenant)")],
    rows=[
        (
            "Now",
            [
                stat(
                    "Requests",
                    "Inference requests with its keys; readiness and metadata are not counted.",
                    "reqps",
                    f"sum(rate({ASKED}{{{WHO}}}{RATE}))",
                ),
                stat(
                    "Failed",
                    "Part of them that failed through the service's fault.",
                    "percentunit",
                    failed_part(WHO),
                    steps=[(None, GOOD), (0.001, WARN), (0.01, BAD)],
                    empty=NOBODY,
                ),
                stat(
                    "p99",
                    "99 of 100 of its inferences took at most so long.",
                    "s",
                    quantiles("modelport_request_seconds", WHO)[2][0],
                    empty="it asks nothing now",
                ),
                stat(
                    "Quota left",
                    "Inferences that are left of today, UTC.",
                    "short",
                    f"min(modelport_quota_left{{{WHO}}})",
                    empty=NO_LIMIT,
                ),
                stat(
                    "Quota used",
                    "Part of today's quota that is used.",
                    "percentunit",
                    f"1 - min(modelport_quota_left{{{WHO}}}) / min(modelport_quota_limit{{{WHO}}})",
                    steps=[(None, GOOD), (0.8, WARN), (0.95, BAD)],
                    empty=NO_LIMIT,
                ),
                stat(
                    "Requests in the time shown",
                    "Inference requests with its keys. A bill is made from `modelport usage`, which is exact.",
                    "short",
                    f"sum(increase({ASKED}{{{WHO}}}[$__range]))",
                ),
            ],
        ),
        (
            "What it asks and gets",
            [
                Panel(
                    title="Requests by model",
                    text="Inference requests. Without a model: refused before one was known.",
                    unit="reqps",
                    stack="normal",
                    queries=[(f"sum by (model) (rate({ASKED}{{{WHO}}}{RATE}))", "{{model}}")],
                ),
                Panel(
                    title="Answers",
                    text="Refused: its own fault, beyond a limit, or given up. Failed: the service's fault.",
                    unit="reqps",
                    queries=answers(WHO),
                    empty=NOBODY,
                ),
                Panel(
                    title="Answers by code",
                    text="429: beyond its rate, quota or concurrency. 403: a model that its key does not allow.",
                    unit="reqps",
                    queries=[
                        (
                            f"sum by (code, grpc_status) (rate({ASKED}{{{WHO}}}{RATE}))",
                            "{{code}} {{grpc_status}}",
                        )
                    ],
                ),
                Panel(
                    title="Inferences by model",
                    text="Rows of the requests that passed all checks: a request may hold many.",
                    unit="ops",
                    stack="normal",
                    queries=[(f"sum by (model) (rate(modelport_inferences_total{{{WHO}}}{RATE}))", "{{model}}")],
                    empty="none of its requests passed",
                ),
                Panel(
                    title="Latency",
                    text="Of its inferences, at the gateway.",
                    unit="s",
                    queries=quantiles("modelport_request_seconds", WHO),
                    empty="it asks nothing now",
                ),
                Panel(
                    title="Bytes",
                    text="Bodies of its requests and of the answers.",
                    unit="Bps",
                    queries=[
                        (f"sum(rate(modelport_received_bytes_total{{{WHO}}}{RATE}))", "received"),
                        (f"sum(rate(modelport_sent_bytes_total{{{WHO}}}{RATE}))", "sent"),
                    ],
                ),
                Panel(
                    title="Quota",
                    text="What is left of the day, and its limit.",
                    unit="short",
                    queries=[
                        (f"min(modelport_quota_left{{{WHO}}})", "left"),
                        (f"min(modelport_quota_limit{{{WHO}}})", "limit"),
                    ],
                    empty=NO_LIMIT,
                ),
            ],
        ),
    ],
)
