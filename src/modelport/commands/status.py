"""The verb `status`: what a running service does now. Rates come from two samples of Triton's own counters."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from modelport.errors import ServerError
from modelport.repository import events
from modelport.repository.events import Event
from modelport.repository.layout import DEFAULT_REPOSITORY, state_folder
from modelport.repository.versions import loaded_versions
from modelport.server import connection, counters, loopback, stubs
from modelport.server.control import READY, UNAVAILABLE
from modelport.server.counters import Rates, Sample
from modelport.server.handle import ServerHandle
from modelport.spec import TRIAL_SUFFIX

SAMPLE_S = 1.0
ANSWER_S = 3.0
EVENTS = 5


@dataclass(frozen=True, kw_only=True)
class VersionStatus:
    """One version that is loaded, or should be.

    Attributes:
        model: Model name.
        version: Version number.
        state: `serving`, `loaded`, `missing` (wanted and not loaded), `loading`, `unloading`.
        ready: Whether `/readyz` calls the model ready; None where nobody tells.
        stubs: Processes of its own that run it and live; 0 for one that runs in the server's process.
        instances: How many there should be; 0 for one that needs none.
        rates: What it did while it was watched, golden requests included.
        probe_ms: How long its last golden request took; None where nobody asks.
        problem: What is wrong; empty when nothing is.
    """

    model: str
    version: int
    state: str
    ready: bool | None
    stubs: int
    instances: int
    rates: Rates
    probe_ms: float | None
    problem: str


@dataclass(frozen=True, kw_only=True)
class Status:
    """A running service.

    Attributes:
        repository: Full path of the repository.
        ready: What `/readyz` says; None where nobody tells.
        unwatched: Why nobody tells; empty where `modelport serve` watches over the server.
        missing: Model to the reason why it is not ready.
        pid: Process of tritonserver; 0 where somebody else started it.
        uptime_s: Seconds since it was started.
        restarts: How often it was started again; None where nobody tells.
        supervisor: Process of `modelport serve`; None where there is none any more.
        http_url: For callers; so is `grpc_url`.
        grpc_url: For callers.
        metrics_url: Triton's Prometheus metrics.
        gateway_url: For callers with a key; empty where there is no gateway.
        gateway: Its process, 0 where somebody else started it; None where there is none, or it is down.
        health_url: The supervisor's `/healthz`, `/readyz`, `/metrics`; empty where there is none.
        log: The server's log.
        dead_stubs: Processes of models that died and that tritonserver keeps until it ends.
        versions: By model and number.
        events: The latest, the oldest first.
    """

    repository: Path
    ready: bool | None
    unwatched: str
    missing: Mapping[str, str]
    pid: int
    uptime_s: float
    restarts: int | None
    supervisor: int | None
    http_url: str
    grpc_url: str
    metrics_url: str
    health_url: str
    gateway_url: str
    gateway: int | None
    log: Path | None
    dead_stubs: int
    versions: tuple[VersionStatus, ...]
    events: tuple[Event, ...]

    @property
    def hint(self) -> str:
        """What to do when there is time; empty when nothing is."""
        return stubs.hint(self.dead_stubs)


def status(repository: str | os.PathLike[str] = DEFAULT_REPOSITORY, *, sample_s: float = SAMPLE_S) -> Status:
    """What the running service of a repository does now.

    Args:
        repository: Folder of the model repository.
        sample_s: Seconds over which rates are measured.

    Raises:
        ServerError: No server runs for it, or it is down at this moment.
        ServerTimeoutError: It does not answer.
    """
    found = next(watch(repository, sample_s=sample_s))
    assert isinstance(found, Status)  # what goes wrong at the first look is raised
    return found


def watch(
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY, *, sample_s: float = SAMPLE_S
) -> Iterator[Status | ServerError]:
    """The same again and again, every `sample_s` seconds; the reason in its place while a server that was seen is away.

    Raises:
        ServerError: As `status`, at the first look.
    """
    root = Path(repository)
    handle, before, seen = None, None, False
    while True:
        try:
            found = running(root)
            if handle is None or before is None or found.server != handle.server:
                handle, before = found, counters.sample(found)
            else:
                after = counters.sample(handle)
                yield _status(root, handle, before, after)
                before, seen = after, True
        except ServerError as exc:
            if not seen:
                raise
            handle = None
            yield exc
        time.sleep(sample_s)


def running(root: Path) -> ServerHandle:
    """The running server of a repository.

    Args:
        root: Folder of the model repository.

    Raises:
        ServerError: None runs for it, or it is down at this moment.
        ServerTimeoutError: It does not answer.
    """
    handle = connection.find(root, timeout_s=ANSWER_S)
    if handle is not None:
        return handle
    last = connection.read(state_folder(root))
    if last is not None and last.supervisor is not None and last.supervisor.lives():
        raise ServerError(
            f"the server of {root} is down at this moment",
            why=f"'modelport serve' (process {last.supervisor.pid}) starts it again",
            fix="try again in some seconds; its standard error and the server's log say why it ended",
        )
    raise ServerError(
        f"no server runs for {root}",
        why="none has made itself known in the state folder, or the one that did has ended",
        fix="start it with 'modelport serve', or name another repository with --repository",
    )


def _status(root: Path, handle: ServerHandle, before: Sample, after: Sample) -> Status:
    watcher = handle.supervisor if handle.supervisor is not None and handle.supervisor.lives() else None
    told = _told(handle) if watcher else {}
    gateway = told.get("gateway") or {}
    return Status(
        repository=handle.repository,
        ready=told.get("ready"),
        unwatched="" if told else _unwatched(handle),
        missing=told.get("missing", {}),
        pid=handle.server_pid,
        uptime_s=_uptime_s(handle),
        restarts=told.get("restarts"),
        supervisor=watcher.pid if watcher else None,
        http_url=handle.http_url,
        grpc_url=handle.grpc_url,
        metrics_url=handle.metrics_url,
        health_url=handle.health_url if watcher else "",
        gateway_url=gateway.get("url", ""),
        gateway=gateway["pid"] if gateway.get("up") else None,
        log=handle.log,
        dead_stubs=stubs.dead(handle),
        versions=tuple(_versions(root, handle, told.get("models", {}), before, after)),
        events=tuple(events.latest(root, EVENTS)),
    )


def _unwatched(handle: ServerHandle) -> str:
    if handle.supervisor is None:
        return "nobody watches over it"
    name = f"'modelport serve' (process {handle.supervisor.pid})"
    if handle.supervisor.lives():
        return f"{name} does not answer"
    return f"{name} has ended, and nobody watches over it; start it again: it takes the place of this server"


def _versions(
    root: Path, handle: ServerHandle, told: Mapping[str, Any], before: Sample, after: Sample
) -> Iterator[VersionStatus]:
    living = Counter((stub.model, stub.version) for stub in stubs.find(handle))
    index: dict[str, dict[int, str]] = {model: {} for model in told}
    for line in handle.index():
        if line.version is not None and not line.model.endswith(TRIAL_SUFFIX):
            index.setdefault(line.model, {})[line.version] = line.state
    for model, states in sorted(index.items()):
        wanted = loaded_versions(root, model) if (root / model).is_dir() else ()
        present = {version for version, state in states.items() if state not in ("", UNAVAILABLE)}
        serving = max((version for version, state in states.items() if state == READY), default=None)
        instances = handle.instances(model) if serving else 0
        about = told.get(model, {})
        for version in sorted(present.union(wanted)):
            state = _word(states.get(version, ""), version == serving)
            probe = about.get("probes", {}).get(str(version), {})
            yield VersionStatus(
                model=model,
                version=version,
                state=state,
                ready=about.get("ready"),
                stubs=living[model, version],
                instances=instances,
                rates=counters.rates((model, version), before, after),
                probe_ms=round(1000 * probe["latency_s"], 3) if probe else None,
                problem=_problem(about, probe, state),
            )


def _word(state: str, serving: bool) -> str:
    if state == READY:
        return "serving" if serving else "loaded"
    return "missing" if state in ("", UNAVAILABLE) else state.lower()


def _problem(about: Mapping[str, Any], probe: Mapping[str, Any], state: str) -> str:
    """What is wrong with a version: what its golden request says, or what is known about its model."""
    if probe and probe["reason"] and probe["kind"] != "unproved":
        return f"{probe['kind']}: {probe['reason']}"
    if state == "missing":
        return str(about.get("problem", ""))
    return str(about.get("reason") or about.get("fault") or "") if state == "serving" else ""


def _told(handle: ServerHandle) -> dict[str, Any]:
    """What the supervisor says; empty where there is none, or where it does not answer."""
    with contextlib.suppress(OSError, ValueError):
        if handle.health_url:
            told: dict[str, Any] = json.loads(loopback.get(f"{handle.health_url}/status", timeout_s=ANSWER_S))
            return told
    return {}


def _uptime_s(handle: ServerHandle) -> float:
    try:
        return max(0.0, time.time() - psutil.Process(handle.server_pid).create_time())
    except psutil.Error:
        return 0.0
