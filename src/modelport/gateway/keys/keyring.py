"""What the gateway needs of the keys: public keys, ids that are refused, limits. No private key, no token.

The gateway reads it anew whenever the register's file is replaced, and when `changes_at` has come.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelport.gateway.keys import register
from modelport.gateway.keys.values import Limits

__all__ = ["Keyring", "Limits", "read"]
SKEW_S = 300  # a revoked key stays refused for so long after it expired: clocks differ


@dataclass(frozen=True, kw_only=True)
class Keyring:
    """Who is let in.

    Attributes:
        jwks: The public keys whose tokens are accepted, as a JSON Web Key Set (RFC 7517).
        revoked: Ids of keys that are refused although their tokens have not expired.
        tenants: The limits of each tenant.
        changes_at: When the next public key ceases to be accepted, seconds since 1970; None where none does.
    """

    jwks: dict[str, list[dict[str, str]]] = field(default_factory=lambda: {"keys": []})
    revoked: frozenset[str] = frozenset()
    tenants: Mapping[str, Limits] = field(default_factory=dict)
    changes_at: float | None = None


def read(repository: Path, *, now: float | None = None) -> Keyring:
    """Who is let in now; nobody where no key was ever made.

    Args:
        repository: The model repository.
        now: The time in seconds since 1970; None for the clock's.

    Raises:
        ManifestError: The register of keys is damaged.
    """
    now = time.time() if now is None else now
    known = register.read(repository)
    accepted = [key for key in known.signing if key.is_accepted(now)]
    return Keyring(
        jwks={"keys": [dict(key.jwk) for key in accepted]},
        revoked=frozenset(
            key.id for key in known.keys.values() if key.revoked_at is not None and now < key.expires_at + SKEW_S
        ),
        tenants=dict(known.tenants),
        changes_at=min((key.accepted_until for key in accepted if key.accepted_until is not None), default=None),
    )
