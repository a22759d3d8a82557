"""The values that `modelport top` shows, in its tables and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GATEWAY, SERVER = "gateway", "server"


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a model, or one version of it, did between the two readings.

    Attributes:
        requests_per_s: Requests that were answered.
        errors_per_s: Requests that failed in the server.
        pending: Requests that wait in the queue now.
        mean_batch: Rows in one run; None where nothing ran.
        mean_ms: Mean milliseconds of a request in the server; None where none was answered. The next three are parts.
        queue_ms: Waiting.
        compute_ms: Computing.
        copy_ms: Bringing inputs in and outputs out.
    """

    requests_per_s: float
    errors_per_s: float
    pending: int
    mean_batch: float | None
    mean_ms: float | None
    queue_ms: float | None
    compute_ms: float | None
    copy_ms: float | None


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What callers saw at the gateway between the two readings.

    Attributes:
        requests_per_s: Inference requests with a valid key, refused ones included.
        refused_per_s: Those that were the caller's fault, beyond a limit, or given up by the caller.
        failed_per_s: Those that were the service's fault.
        p50_ms: Half of them took at most so many milliseconds; None where there were none.
        p99_ms: 99 % of them.
    """

    requests_per_s: float
    refused_per_s: float
    failed_per_s: float
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, kw_only=True)
class Version:
    """One loaded version: its number and what it did."""

    version: int
    work: Work


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model.

    Attributes:
        model: Its name.
        serving: The version that callers get; None where nobody tells.
        ready: Whether it is ready; None where nobody tells.
        work: What its versions did together.
        seen: What its callers saw; None where no gateway is watched.
        versions: Those that are loaded.
    """

    model: str
    serving: int | None
    ready: bool | None
    work: Work
    seen: Seen | None
    versions: tuple[Version, ...]


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """One tenant: its name and what it saw."""

    tenant: str
    seen: Seen


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU, by what Triton tells; None where it does not.

    Attributes:
        uuid: Its name.
        used: Part of the time in which it was busy, 0 to 1.
        memory_bytes: Memory in use.
        memory_total_bytes: All of it.
        power_w: Watts.
    """

    uuid: str
    used: float | None
    memory_bytes: float | None
    memory_total_bytes: float | None
    power_w: float | None


@dataclass(frozen=True, kw_only=True)
class View:
    """A service at one moment.

    Attributes:
        seconds: Time between the two readings.
        away: Pages of metrics that did not answer, each with the reason.
        quantiles_seconds: Time over which p50 and p99 are taken.
        quantiles: Where p50 and p99 come from: `gateway`, or `server` where there are none and means are all there is.
        ready: What the supervisor says; None where there is none.
        restarts: How often it started the server again; None where there is none.
        requests_per_s: Requests that Triton answered; an ensemble and its steps count each.
        errors_per_s: Requests that failed in it.
        cpu: Part of the processors of the machine that is in use, 0 to 1; None where Triton does not tell, as below.
        memory_bytes: Memory of the machine in use.
        memory_total_bytes: All of it.
        models: By name.
        tenants: By name; those that asked since the gateway's start.
        gpus: By name.
    """

    seconds: float
    away: Mapping[str, str]
    quantiles_seconds: float
    quantiles: str
    ready: bool | None
    restarts: int | None
    requests_per_s: float
    errors_per_s: float
    cpu: float | None
    memory_bytes: float | None
    memory_total_bytes: float | None
    models: tuple[Model, ...]
    tenants: tuple[Tenant, ...]
    gpus: tuple[Gpu, ...]
