"""What a service does, as `modelport top` shows it: differences between two readings of its metrics.

Requests, errors, queue and batches are Triton's, golden requests included. What callers see - quantiles, and all that
is told by tenant - is the gateway's.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from modelport.spec import TRIAL_SUFFIX
from modelport.watching.pages import Reading
from modelport.watching.series import Series, quantile
from modelport.watching.values import GATEWAY, SERVER, Gpu, Model, Seen, Tenant, Version, View, Work

TIMES = "modelport_request_seconds_bucket"
ANSWERS = "modelport_requests_total"
_TRITON = "nv_inference_"
_VERSION = ("model", "version")
_COUNTERS = {
    "answered": "request_success",
    "failed": "request_failure",
    "rows": "count",
    "runs": "exec_count",
    "request_us": "request_duration_us",
    "queue_us": "queue_duration_us",
    "input_us": "compute_input_duration_us",
    "infer_us": "compute_infer_duration_us",
    "output_us": "compute_output_duration_us",
}
_SERVERS_FAULT = ("2", "4", "13", "14", "15")  # statuses of gRPC
_NO_GRPC = ("", "-", "0")


def view(readings: Sequence[Reading]) -> View:
    """What a service did between the last two readings; quantiles are those of the time since the first.

    Args:
        readings: Two or more, the earliest first.
    """
    before, after, now = readings[-2].series, readings[-1].series, readings[-1]
    seconds = max(now.at_s - readings[-2].at_s, 1e-9)
    work = _Counted(before, after, seconds)
    watched = after.has("modelport_gateway_up")
    gateway = _Gateway(readings[0].series, before, after, seconds) if watched else None
    models = tuple(_model(name, after, work, gateway) for name in work.names())
    ready, restarts = after.one("modelport_ready"), after.one("modelport_server_restarts_total")
    return View(
        seconds=seconds,
        quantiles_seconds=now.at_s - readings[0].at_s,
        away=now.away,
        quantiles=GATEWAY if gateway else SERVER,
        ready=None if ready is None else bool(ready),
        restarts=None if restarts is None else int(restarts),
        requests_per_s=sum(one.work.requests_per_s for one in models),
        errors_per_s=sum(one.work.errors_per_s for one in models),
        cpu=after.one("nv_cpu_utilization"),
        memory_bytes=after.one("nv_cpu_memory_used_bytes"),
        memory_total_bytes=after.one("nv_cpu_memory_total_bytes"),
        models=models,
        tenants=tuple(Tenant(tenant=name, seen=gateway.of("tenant", name)) for name in gateway.tenants())
        if gateway
        else (),
        gpus=tuple(_gpus(after)),
    )


def _model(name: str, after: Series, work: _Counted, gateway: _Gateway | None) -> Model:
    serving = after.by("modelport_serving_version", "model").get((name,))
    ready = after.by("modelport_model_ready", "model").get((name,))
    versions = work.versions(name)
    return Model(
        model=name,
        serving=None if serving is None else int(serving),
        ready=None if ready is None else bool(ready),
        work=work.of(name, versions),
        seen=gateway.of("model", name) if gateway else None,
        versions=tuple(Version(version=int(one), work=work.of(name, [one])) for one in versions),
    )


def _gpus(after: Series) -> list[Gpu]:
    names = ("utilization", "memory_used_bytes", "memory_total_bytes", "power_usage")
    told = [after.by(f"nv_gpu_{name}", "gpu_uuid") for name in names]
    return [
        Gpu(
            uuid=key[0],
            used=told[0].get(key),
            memory_bytes=told[1].get(key),
            memory_total_bytes=told[2].get(key),
            power_w=told[3].get(key),
        )
        for key in sorted({key for one in told for key in one})
    ]


def _grown(before: Series, after: Series, name: str, *keys: str) -> dict[tuple[str, ...], float]:
    """By how much counters grew. One that fell has begun again, and grew from nothing."""
    then = before.by(name, *keys)
    return {
        key: value - then.get(key, 0.0) if value >= then.get(key, 0.0) else value
        for key, value in after.by(name, *keys).items()
    }


def _grown_lately(before: Series, after: Series, name: str, *keys: str) -> dict[tuple[str, ...], float]:
    """The same for counters by tenant and model that no restart sets back.

    A tenant's model that was not told of before has a past of unknown length: what it does shows from now on.
    """
    known = before.by(name, "tenant", "model")
    grown = _grown(before, after, name, "tenant", "model", *keys)
    return {key: value for key, value in grown.items() if key[:2] in known}


class _Counted:
    """What Triton counted. A version of which a counter fell was loaded anew, and did all that it did since then."""

    def __init__(self, before: Series, after: Series, seconds: float) -> None:
        then, now = (
            {word: page.by(_TRITON + name, *_VERSION) for word, name in _COUNTERS.items()} for page in (before, after)
        )
        anew = {key for word, by in now.items() for key, value in by.items() if value < then[word].get(key, 0.0)}
        self._grew = {
            word: {key: value - (0.0 if key in anew else then[word].get(key, 0.0)) for key, value in by.items()}
            for word, by in now.items()
        }
        self._pending = after.by(f"{_TRITON}pending_request_count", *_VERSION)
        self._seconds = seconds

    def names(self) -> list[str]:
        return sorted({model for model, _ in self._grew["answered"] if not model.endswith(TRIAL_SUFFIX)})

    def versions(self, model: str) -> list[str]:
        return sorted((version for name, version in self._grew["answered"] if name == model), key=int)

    def of(self, model: str, versions: list[str]) -> Work:
        keys = [(model, version) for version in versions]
        grew = {word: sum(by.get(key, 0.0) for key in keys) for word, by in self._grew.items()}
        answered, runs = grew["answered"], grew["runs"]

        def mean_ms(*words: str) -> float | None:
            return sum(grew[word] for word in words) / answered / 1000 if answered else None

        return Work(
            requests_per_s=answered / self._seconds,
            errors_per_s=grew["failed"] / self._seconds,
            pending=int(sum(self._pending.get(key, 0.0) for key in keys)),
            mean_batch=grew["rows"] / runs if runs else None,
            mean_ms=mean_ms("request_us"),
            queue_ms=mean_ms("queue_us"),
            compute_ms=mean_ms("infer_us"),
            copy_ms=mean_ms("input_us", "output_us"),
        )


class _Gateway:
    """What callers with a valid key got at the gateway."""

    def __init__(self, first: Series, before: Series, after: Series, seconds: float) -> None:
        self._answers = _grown_lately(before, after, ANSWERS, "code", "grpc_status")
        self._times: dict[str, dict[str, dict[float, float]]] = {
            "model": _times(first, after, TIMES, "model"),
            "tenant": _times(first, after, TIMES, "tenant"),
        }
        self._seconds = seconds

    def tenants(self) -> list[str]:
        return sorted({tenant for tenant, *_ in self._answers})

    def of(self, what: str, name: str) -> Seen:
        place = 0 if what == "tenant" else 1
        counts: dict[str, float] = defaultdict(float)
        for key, grew in self._answers.items():
            if key[place] == name:
                counts[_kind(key[2], key[3])] += grew
        times = self._times[what].get(name, {})
        return Seen(
            requests_per_s=sum(counts.values()) / self._seconds,
            refused_per_s=counts["refused"] / self._seconds,
            failed_per_s=counts["failed"] / self._seconds,
            p50_ms=_ms(quantile(times, 0.5)),
            p99_ms=_ms(quantile(times, 0.99)),
        )


def _kind(code: str, grpc_status: str) -> str:
    """What an answer says: over gRPC the status of HTTP is 200 for a failure, too."""
    if code == "200":
        if grpc_status in _NO_GRPC:
            return "answered"
        return "failed" if grpc_status in _SERVERS_FAULT else "refused"
    return "failed" if code.startswith("5") else "refused"


def _times(before: Series, after: Series, name: str, label: str) -> dict[str, dict[float, float]]:
    times: dict[str, dict[float, float]] = defaultdict(lambda: defaultdict(float))
    for (tenant, model, bound), count in _grown_lately(before, after, name, "le").items():
        word = tenant if label == "tenant" else model
        times[word][math.inf if bound == "+Inf" else float(bound)] += count
    return times


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
