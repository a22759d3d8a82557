"""What the gate knows: models, revoked keys, and what tenants may."""

from __future__ import annotations

import functools
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelport.gateway.gate_models import Models
from modelport.gateway.keys import keyring
from modelport.gateway.lua import table
from modelport.gateway.settings import Settings


@dataclass(frozen=True, kw_only=True)
class GateData:
    """What a gate is rendered from.

    Attributes:
        models: Name to what the gate checks of it, as `gate_models` makes it.
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

    @functools.cached_property
    def lua(self) -> str:
        """The gate's variable DATA. Of revoked keys it need not know: they are refused before."""
        tables = {
            "models": self.models,
            "bodies": self.bodies,
            "turnstiles": self.turnstiles,
            "waits": self.waits,
        }
        return f"{table('DATA', tables)}\nDATA.depth = {self.depth}\n"


def turnstile(tenant: str) -> str:
    """The cluster that lets so many of a tenant's requests through at a time as it may have."""
    return f"tenant:{tenant}"


def secret() -> str:
    """What the gate puts on a request that it lets through."""
    return secrets.token_hex(16)


def read(repository: Path, settings: Settings, models: Models) -> GateData:
    """What the gate has to know now.

    Args:
        repository: The model repository.
        settings: How the gateway is run.
        models: What was read of the models before.

    Raises:
        RepositoryError: There is no such repository.
    """
    ring = keyring.read(repository)
    return GateData(
        models=models.read(repository),
        revoked=ring.revoked,
        bodies={name: one.body_bytes for name, one in ring.tenants.items() if one.body_bytes},
        turnstiles={name: turnstile(name) for name, one in ring.tenants.items() if one.concurrency},
        waits={name: _wait_s(one.rate_per_s) for name, one in ring.tenants.items() if (one.rate_per_s or 1) < 1},
        depth=settings.depth,
    )


def _wait_s(rate_per_s: float | None) -> int:
    """Seconds until a token has come for certain."""
    return math.ceil(1 / (rate_per_s or 1))
