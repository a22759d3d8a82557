"""Rates from Triton's counters: two samples, and what happened between them."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from modelport.server import loopback
from modelport.server.handle import ServerHandle

Version = tuple[str, int]
_PENDING = re.compile(
    r'^nv_inference_pending_request_count\{(?:.*,)?model="([^"]+)",version="(\d+)"\} ([\d.e+]+)$', re.MULTILINE
)
_ANSWER_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Counters:
    """What one version has done since it was loaded.

    Attributes:
        answered: Requests that were answered.
        answered_ns: Nanoseconds that these took in the server, all together.
        failed: Requests that failed.
        rows: Rows that were computed.
        runs: Runs in which they were computed.
    """

    answered: int
    answered_ns: int
    failed: int
    rows: int
    runs: int


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The counters of all loaded versions at one moment.

    Attributes:
        at_s: When, in seconds that only grow.
        counters: By model and version.
        pending: Requests that wait now, by model and version; empty where Triton does not tell.
    """

    at_s: float
    counters: Mapping[Version, Counters]
    pending: Mapping[Version, int]


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What one version did between two samples.

    Attributes:
        requests_per_s: Requests that were answered, each second.
        errors_per_s: Requests that failed, each second.
        pending: Requests that wait now; None where Triton does not tell.
        mean_batch: Rows in one run; None where nothing ran.
        latency_ms: Mean milliseconds of a request in the server; None where none was answered.
    """

    requests_per_s: float = 0.0
    errors_per_s: float = 0.0
    pending: int | None = None
    mean_batch: float | None = None
    latency_ms: float | None = None


def sample(handle: ServerHandle) -> Sample:
    """Read the counters now.

    Raises:
        ServerError: The server does not tell them.
    """
    counters = {}
    for line in handle.statistics():
        stats = line.get("inference_stats", {})
        success, fail = stats.get("success", {}), stats.get("fail", {})
        counters[line["name"], int(line["version"])] = Counters(
            answered=int(success.get("count", 0)),
            answered_ns=int(success.get("ns", 0)),
            failed=int(fail.get("count", 0)),
            rows=int(line.get("inference_count", 0)),
            runs=int(line.get("execution_count", 0)),
        )
    return Sample(at_s=time.monotonic(), counters=counters, pending=_pending(handle.metrics_url))


def rates(version: Version, before: Sample, after: Sample) -> Rates:
    """What a version did between two samples. One that was loaded meanwhile, or anew, has done all it did since."""
    now = after.counters.get(version)
    if now is None:
        return Rates(pending=after.pending.get(version))
    then = before.counters.get(version)
    if then is None or now.answered < then.answered or now.failed < then.failed or now.runs < then.runs:
        then = Counters(answered=0, answered_ns=0, failed=0, rows=0, runs=0)
    seconds = max(after.at_s - before.at_s, 1e-9)
    answered, runs = now.answered - then.answered, now.runs - then.runs
    return Rates(
        requests_per_s=answered / seconds,
        errors_per_s=(now.failed - then.failed) / seconds,
        pending=after.pending.get(version),
        mean_batch=(now.rows - then.rows) / runs if runs else None,
        latency_ms=(now.answered_ns - then.answered_ns) / answered / 1e6 if answered else None,
    )


def _pending(metrics_url: str) -> dict[Version, int]:
    """Requests that wait; empty where the metrics port does not answer."""
    with contextlib.suppress(OSError, ValueError):
        text = loopback.get(metrics_url, timeout_s=_ANSWER_S)
        return {(model, int(version)): int(float(count)) for model, version, count in _PENDING.findall(text)}
    return {}
