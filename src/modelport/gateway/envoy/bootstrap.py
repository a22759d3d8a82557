"""Envoy's configuration as a whole: what stays as long as it runs, and the files that it follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelport.gateway.envoy import clusters as behind
from modelport.gateway.envoy import filters
from modelport.gateway.envoy import listener as front
from modelport.gateway.envoy.filters import TYPE, Config
from modelport.gateway.gate_data import GateData
from modelport.gateway.keys.keyring import Limits
from modelport.gateway.settings import Settings

ADMIN_SOCKET = "admin.sock"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What may change while a gateway runs.

    Attributes:
        jwks: The public keys.
        tenants: Their limits.
        left: What is left of their quota today.
        gate: What the gate knows.
        secret: What it puts on requests that it lets through.
        settings: How the gateway is run; of these only the servers may change.
    """

    jwks: Mapping[str, Any]
    tenants: Mapping[str, Limits]
    left: Mapping[str, int]
    gate: GateData
    secret: str
    settings: Settings


def followed(facts: Facts) -> dict[str, Config]:
    """The files that Envoy follows, by their names without the ending."""
    settings = facts.settings
    files = {name: _extension(name, config) for name, config in _filters(facts).items()}
    for name in (front.HTTP, front.GRPC):
        files[name] = {"resources": [behind.endpoints(name, settings.upstreams)]}
    if settings.tls:
        files["tls"] = {"resources": [_certificate(settings)]}
    return files


def running(facts: Facts, folder: Path) -> Config:
    """The configuration to start with.

    Args:
        facts: Of these, the settings and the secret.
        folder: Of the files that Envoy follows; sockets and logs are in the one above.
    """
    return _whole(facts, folder, front.discovered(folder))


def checked(facts: Facts, folder: Path) -> Config:
    """The same with the filters in it, for `envoy --mode validate`, which opens no file that would be followed."""
    filled = [{"name": name, "typed_config": config} for name, config in _filters(facts).items()]
    return _whole(facts, folder, filled)


def _filters(facts: Facts) -> dict[str, Config]:
    return {
        "jwt": filters.jwt(facts.jwks),
        "rate": filters.rate(facts.tenants),
        "gate": filters.gate(facts.gate, facts.secret),
        "quota": filters.quota(facts.left),
    }


def _extension(name: str, config: Config) -> Config:
    entry = {"@type": f"{TYPE}envoy.config.core.v3.TypedExtensionConfig", "name": name, "typed_config": config}
    return {"resources": [entry]}


def _certificate(settings: Settings) -> Config:
    content = {
        "certificate_chain": {"filename": str(settings.certificate)},
        "private_key": {"filename": str(settings.key)},
    }
    return {
        "@type": f"{TYPE}envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "tls",
        "tls_certificate": content,
    }


def _whole(facts: Facts, folder: Path, entries: list[Config]) -> Config:
    return {
        "node": {"id": "modelport", "cluster": "modelport"},
        "admin": {"address": {"pipe": {"path": str(folder.parent / ADMIN_SOCKET), "mode": 0o600}}},
        "overload_manager": {"resource_monitors": [_connections(facts.settings)]},
        "static_resources": {
            "listeners": [front.listener(facts.settings, folder, entries, facts.secret)],
            "clusters": behind.clusters(facts.settings, folder),
        },
    }


def _connections(settings: Settings) -> Config:
    kind = "envoy.resource_monitors.global_downstream_max_connections"
    typed = f"{TYPE}envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    return {
        "name": kind,
        "typed_config": {"@type": typed, "max_active_downstream_connections": settings.connections},
    }
