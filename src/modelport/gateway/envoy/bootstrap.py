"""Envoy's configuration as a whole: what stays as long as it runs, and the files that it follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelport.gateway.envoy import clusters as behind
from modelport.gateway.envoy import filters, metrics, tracing
from modelport.gateway.envoy import listener as front
from modelport.gateway.envoy.filters import TYPE, Config
from modelport.gateway.gate_data import GateData
from modelport.gateway.golden import Golden
from modelport.gateway.keys.keyring import Limits
from modelport.gateway.quota import Left
from modelport.gateway.settings import Settings

CLUSTERS = "clusters"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What may change while a gateway runs.

    Attributes:
        jwks: The public keys.
        tenants: Their limits.
        left: What is left of their quota today.
        turnstiles: Tenant to the requests that it may have on their way.
        golden: What health checks ask of several servers; None where nothing is known.
        gate: What the gate knows.
        secret: What it puts on requests that it lets through.
        settings: How the gateway is run; of these only the servers may change.
    """

    jwks: Mapping[str, Any]
    tenants: Mapping[str, Limits]
    left: Left
    turnstiles: Mapping[str, int]
    golden: Golden | None
    gate: GateData
    secret: str
    settings: Settings


def followed(facts: Facts) -> dict[str, Config]:
    """The files that Envoy follows, by their names without the ending, in the order in which they are replaced."""
    settings = facts.settings
    kind = {"@type": f"{TYPE}envoy.config.cluster.v3.Cluster"}
    files: dict[str, Config] = {CLUSTERS: {"resources": [{**kind, **cluster} for cluster in _clusters(facts)]}}
    files.update((name, _extension(name, config)) for name, config in _filters(facts).items())
    if settings.tls:
        files["tls"] = {"resources": [_certificate(settings)]}
    return files


def running(facts: Facts, folder: Path) -> Config:
    """The configuration to start with.

    Args:
        facts: Of these, the settings and the secret.
        folder: Of the files that Envoy follows; logs are in the one above, and sockets, in which Envoy runs.
    """
    return _whole(facts, folder, front.discovered(folder), [], {"cds_config": front.followed(folder, CLUSTERS)})


def checked(facts: Facts, folder: Path) -> Config:
    """The same with the filters in it, for `envoy --mode validate`, which opens no file that would be followed."""
    filled = [{"name": name, "typed_config": config} for name, config in _filters(facts).items()]
    return _whole(facts, folder, filled, _clusters(facts), {})


def _clusters(facts: Facts) -> list[Config]:
    return behind.followed(facts.settings, facts.golden, facts.turnstiles)


def _filters(facts: Facts) -> dict[str, Config]:
    return {
        "jwt": filters.jwt(facts.jwks),
        "revoked": filters.revoked(facts.gate.revoked),
        "rate": filters.rate(facts.tenants),
        "gate": filters.gate(facts.gate, facts.secret),
        "quota": filters.quota(facts.left),
    }


def _extension(name: str, config: Config) -> Config:
    entry = {"@type": f"{TYPE}envoy.config.core.v3.TypedExtensionConfig", "name": name, "typed_config": config}
    return {"resources": [entry]}


def _certificate(settings: Settings) -> Config:
    """Read anew whenever a file is moved into its folder: that is how certificates are renewed."""
    assert settings.certificate is not None
    content = {
        "certificate_chain": {"filename": str(settings.certificate)},
        "private_key": {"filename": str(settings.key)},
        "watched_directory": {"path": str(settings.certificate.parent)},
    }
    return {
        "@type": f"{TYPE}envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "tls",
        "tls_certificate": content,
    }


def _whole(facts: Facts, folder: Path, entries: list[Config], clusters: list[Config], dynamic: Config) -> Config:
    internal = f"{TYPE}envoy.extensions.bootstrap.internal_listener.v3.InternalListener"
    return {
        "node": {"id": "modelport", "cluster": "modelport"},
        "admin": {"address": {"pipe": {"path": metrics.ADMIN_SOCKET, "mode": 0o600}}},
        "bootstrap_extensions": [{"name": "envoy.bootstrap.internal_listener", "typed_config": {"@type": internal}}],
        "dynamic_resources": dynamic,
        "overload_manager": _overload(facts.settings),
        **metrics.whole(),
        **tracing.whole(facts.settings.otlp),
        "static_resources": {
            "listeners": [
                front.listener(facts.settings, folder, entries, facts.secret),
                front.turnstiles(facts.settings),
                *([metrics.listener(facts.settings)] if facts.settings.metrics_port is not None else []),
            ],
            "clusters": [*behind.fixed(), metrics.cluster(), *tracing.clusters(facts.settings.otlp), *clusters],
        },
    }


def _overload(settings: Settings) -> Config:
    """What Envoy does when its memory runs short: it refuses requests; only callers with a key make it hold theirs."""
    heap = "envoy.resource_monitors.fixed_heap"
    typed = f"{TYPE}envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig"
    memory = {
        "name": heap,
        "typed_config": {"@type": typed, "max_heap_size_bytes": settings.memory_bytes},
    }
    thresholds = {"shrink_heap": 0.8, "stop_accepting_requests": 0.95}
    return {
        "refresh_interval": "0.1s",
        "resource_monitors": [_connections(settings), memory],
        "actions": [
            {"name": f"envoy.overload_actions.{name}", "triggers": [{"name": heap, "threshold": {"value": value}}]}
            for name, value in thresholds.items()
        ],
    }


def _connections(settings: Settings) -> Config:
    kind = "envoy.resource_monitors.global_downstream_max_connections"
    typed = f"{TYPE}envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    return {
        "name": kind,
        "typed_config": {"@type": typed, "max_active_downstream_connections": settings.connections},
    }
