"""What the gate knows: which models and versions there are, what their inputs look like, and where calls go."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelport.errors import ManifestError, ModelNotFoundError
from modelport.gateway.capture import stored as captured
from modelport.gateway.keys import keyring
from modelport.gateway.lua import literal
from modelport.gateway.routes import stored as routes
from modelport.gateway.routes.stored import Route
from modelport.gateway.settings import Settings
from modelport.repository import switch
from modelport.repository.layout import model_names
from modelport.repository.versions import loaded_versions


@dataclass(frozen=True, kw_only=True)
class GateData:
    """What a gate is rendered from.

    Attributes:
        models: Name to what the gate checks of it, as `_model` makes it.
        revoked: Keys that are not taken any more, by their ids.
        bodies: Tenant to the largest request in bytes, where it has a limit of its own.
        turnstiles: Tenants that may have only so many requests on their way, and the cluster that counts them.
        waits: Tenants with less than one request a second, and the seconds until the next one at most.
        depth: How deep JSON may be nested.
    """

    models: Mapping[str, Mapping[str, Any]]
    revoked: frozenset[str]
    bodies: Mapping[str, int]
    turnstiles: Mapping[str, str] = field(default_factory=dict)
    waits: Mapping[str, int] = field(default_factory=dict)
    depth: int

    def lua(self) -> str:
        """The table for the gate."""
        table = {
            "models": self.models,
            "revoked": dict.fromkeys(sorted(self.revoked), True),
            "bodies": self.bodies,
            "turnstiles": self.turnstiles,
            "waits": self.waits,
            "depth": self.depth,
        }
        return literal(table)


def turnstile(tenant: str) -> str:
    """The cluster that lets so many of a tenant's requests through at a time as it may have."""
    return f"tenant:{tenant}"


def secret() -> str:
    """What the gate puts on a request that it lets through."""
    return secrets.token_hex(16)


def read(repository: Path, settings: Settings) -> GateData:
    """What the gate has to know now.

    Raises:
        RepositoryError: There is no such repository.
    """
    ring = keyring.read(repository)
    return GateData(
        models=dict(_models(repository)),
        revoked=ring.revoked,
        bodies={name: one.body_bytes for name, one in ring.tenants.items() if one.body_bytes},
        turnstiles={name: turnstile(name) for name, one in ring.tenants.items() if one.concurrency},
        waits={name: _wait_s(one.rate_per_s) for name, one in ring.tenants.items() if (one.rate_per_s or 1) < 1},
        depth=settings.depth,
    )


def _wait_s(rate_per_s: float | None) -> int:
    """Seconds until a token has come for certain."""
    return math.ceil(1 / (rate_per_s or 1))


def _models(repository: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Those with a version that is loaded; what cannot be read is not served."""
    every, rules = routes.read(repository), captured.rules(repository)
    for name in model_names(repository):
        try:
            loaded = loaded_versions(repository, name)
            config, record = switch.read(repository, name)
        except (ManifestError, ModelNotFoundError):
            continue
        if not loaded:
            continue
        aliases = {word: str(number) for word, number in record.aliases.items() if number in loaded}
        rule = rules.get(name)
        yield (
            name,
            {
                **_inputs(config),
                "aliases": aliases,
                **_route(every.get(name), aliases, loaded),
                "capture": rule.part if rule else None,
            },
        )


def _inputs(config: Any) -> dict[str, Any]:
    inputs = {
        str(one.name): {
            "datatype": _datatype(one),
            "dims": [int(dim) for dim in one.dims],
            "optional": bool(one.optional),
        }
        for one in config.input
    }
    return {"batch": int(config.max_batch_size), "inputs": inputs, "names": ", ".join(inputs)}


def _datatype(tensor: Any) -> str:
    """As the protocol says it."""
    word = type(tensor).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[tensor.data_type].name
    return "BYTES" if word == "TYPE_STRING" else str(word).removeprefix("TYPE_")


def _route(route: Route | None, aliases: Mapping[str, str], loaded: tuple[int, ...]) -> dict[str, Any]:
    """Shares as bounds in percent; what is not loaded gets none, and the others what it had."""
    if route is None:
        return {"route": None, "shadow": None}
    there = [(_version(one.target, aliases, loaded), one.percent) for one in route.shares]
    shares = [(version, percent) for version, percent in there if version and percent > 0]
    whole, below, bounds = sum(percent for _, percent in shares), 0.0, []
    for version, percent in shares:
        below += 100 * percent / whole
        bounds.append({"version": version, "below": round(below, 6)})
    by, _, header = route.sticky.partition(":")
    sticky = {"by_tenant": by == "tenant", "by_header": header.lower() or None}
    return {
        "route": {**sticky, "shares": bounds} if bounds else None,
        "shadow": _version(route.shadow, aliases, loaded) or None,
    }


def _version(target: str, aliases: Mapping[str, str], loaded: tuple[int, ...]) -> str:
    """The number behind a target, where it is loaded; else nothing."""
    if target.isdecimal():
        return target if int(target) in loaded else ""
    return aliases.get(target, "")
