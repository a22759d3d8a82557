"""What keys are made of: `Limits` of a tenant, a `Key` that was issued, a `SigningKey`.

Times are seconds since 1970.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from modelport.errors import InvalidNameError, UsageError

ALL_MODELS = "*"
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a tenant may do, with all its keys together. None: no limit of its own.

    Attributes:
        rate_per_s: Requests per second.
        burst: Requests that may come at once after a pause; None: as many as in a second, one at least.
        daily: Requests per day, UTC.
        concurrency: Requests on their way at the same time.
        body_bytes: The largest request body.
    """

    rate_per_s: float | None = None
    burst: int | None = None
    daily: int | None = None
    concurrency: int | None = None
    body_bytes: int | None = None

    def __post_init__(self) -> None:
        wrong = [f"{name}={value!r}" for name, value in vars(self).items() if not _is_limit(name, value)]
        if wrong:
            raise UsageError(
                f"these limits cannot be: {', '.join(wrong)}",
                why="each is a number above 0, and but for rate_per_s a whole one, or None",
                fix="correct them",
            )


@dataclass(frozen=True, kw_only=True)
class Key:
    """An issued key; its token is not kept.

    Attributes:
        id: 12 hexadecimal digits, the token's `jti`.
        tenant: Whose it is, the token's `sub`.
        models: Names of the models that may be asked, or `*` alone for all.
        issued_at: When it was made.
        expires_at: From when on it is refused.
        signed_by: The signing key's `kid`.
        revoked_at: From when on it is refused nevertheless; None where it is not.
    """

    id: str
    tenant: str
    models: tuple[str, ...]
    issued_at: int
    expires_at: int
    signed_by: str
    revoked_at: int | None = None


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """The public half of a key that signs tokens, or did.

    Attributes:
        kid: Its name, in each token's header.
        jwk: The public key as a JSON Web Key (RFC 7517).
        created_at: When it was made.
        accepted_until: Until when its tokens are accepted; None for the one that signs now.
    """

    kid: str
    jwk: Mapping[str, str]
    created_at: int
    accepted_until: int | None = None

    def is_accepted(self, now: float) -> bool:
        """Whether tokens that it signed are let in."""
        return self.accepted_until is None or now < self.accepted_until


def check_tenant(name: str) -> str:
    """The name of a tenant: a letter or digit, then letters, digits, `_`, `.`, `-`, 63 at most.

    Raises:
        InvalidNameError: It breaks this rule.
    """
    if isinstance(name, str) and _TENANT.fullmatch(name):
        return name
    raise InvalidNameError(
        f"{str(name)[:70]!r} cannot be a tenant",
        why="a tenant's name is 1 to 63 of A-Z a-z 0-9 _ . - and starts with a letter or digit",
        fix="choose a name such as 'acme'",
        name=str(name),
    )


def _is_limit(name: str, value: object) -> bool:
    if value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 < value < math.inf and (isinstance(value, int) or name == "rate_per_s")
