"""The register of what was issued, `<state>/gateway/keys/register.json`: signing keys (public halves), keys, tenants.

It holds no token and no private key. It is one file, replaced in one step, so that whoever is killed leaves the old one
or the new one; who changes it holds a lock, so that two commands at once both count.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from modelport.errors import InvalidNameError, ManifestError, UsageError
from modelport.gateway import private
from modelport.gateway.keys.values import ALL_MODELS, Key, Limits, SigningKey, check_tenant
from modelport.repository import disk
from modelport.spec import check_model_name

T = TypeVar("T")
AREA = "keys"
FILE = "register.json"
KEPT_S = 90 * 86400  # keys that expired stay in the list for so long
FORMAT = 1
_DAMAGE = (ValueError, TypeError, KeyError, AttributeError, RecursionError, InvalidNameError, UsageError)


@dataclass(frozen=True, kw_only=True)
class Register:
    """All that was issued.

    Attributes:
        signing: The signing keys whose tokens may still be accepted; the one that signs now is the last.
        keys: The issued keys by id, the oldest first.
        tenants: The limits of each tenant that ever had a key.
    """

    signing: tuple[SigningKey, ...] = ()
    keys: Mapping[str, Key] = field(default_factory=dict)
    tenants: Mapping[str, Limits] = field(default_factory=dict)

    @property
    def signs(self) -> SigningKey | None:
        """The key that signs new tokens; None before the first one was made."""
        return next((key for key in self.signing if key.accepted_until is None), None)

    def state_of(self, key: Key, now: float) -> str:
        """`active`, `revoked`, `expired`, or `refused`: its signing key was replaced and is no longer accepted."""
        if key.revoked_at is not None:
            return "revoked"
        if now >= key.expires_at:
            return "expired"
        signers = {signing.kid for signing in self.signing if signing.is_accepted(now)}
        return "active" if key.signed_by in signers else "refused"

    def active(self, now: float) -> list[Key]:
        """The keys that the gateway lets in."""
        return [key for key in self.keys.values() if self.state_of(key, now) == "active"]


def path(repository: Path) -> Path:
    """The register's file; it is replaced whenever something changes, and need not exist."""
    return private.folder(repository, AREA, FILE)


def read(repository: Path) -> Register:
    """The register; an empty one where there is no file.

    Raises:
        ManifestError: The file is damaged.
    """
    file = path(repository)
    try:
        return _register(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Register()
    except (OSError, *_DAMAGE) as exc:
        raise ManifestError(
            f"the register of keys cannot be read: {file}",
            why=f"{type(exc).__name__}: {exc}",
            fix="bring the file back from a backup; without it no key is known, and all tokens must be issued anew",
            path=str(file),
        ) from exc


def change(repository: Path, now: float, act: Callable[[Register, Path], tuple[Register, T]]) -> T:
    """Change the register, alone.

    Args:
        repository: The model repository.
        now: The time.
        act: Is given the register and its folder, and gives the new one and a result. What it writes beside the
            register must do no harm where the register stays as it was.

    Returns:
        The result.

    Raises:
        ManifestError: The register is damaged.
        RepositoryLockedError: Another process held the lock for a minute.
        RepositoryError: The disk refuses.
    """
    with private.locked(repository, AREA) as folder:
        before = read(repository)
        after, result = act(before, folder)
        after = _without_old(after, now)
        if after != before:
            private.write(folder / FILE, _text(after))
    return result


def _without_old(register: Register, now: float) -> Register:
    """The register without what has no meaning any more."""
    return dataclasses.replace(
        register,
        signing=tuple(key for key in register.signing if key.is_accepted(now)),
        keys={key.id: key for key in register.keys.values() if now < key.expires_at + KEPT_S},
    )


def _text(register: Register) -> bytes:
    content = {
        "format": FORMAT,
        "signing": [dataclasses.asdict(key) for key in register.signing],
        "keys": [dataclasses.asdict(key) for key in register.keys.values()],
        "tenants": {name: dataclasses.asdict(limits) for name, limits in register.tenants.items()},
    }
    return disk.encode(json.dumps(content, indent=1) + "\n")


def _register(content: Mapping[str, Any]) -> Register:
    if content["format"] != FORMAT:
        raise ValueError(f"its format is {content['format']!r}, this modelport knows {FORMAT}")
    keys = [_key(each) for each in content["keys"]]
    register = Register(
        signing=tuple(_signing(each) for each in content["signing"]),
        keys={key.id: key for key in keys},
        tenants={check_tenant(name): Limits(**limits) for name, limits in content["tenants"].items()},
    )
    if len(register.keys) != len(keys):
        raise ValueError("two keys have one id")
    if sum(key.accepted_until is None for key in register.signing) != min(1, len(register.signing)):
        raise ValueError("not exactly one of the signing keys signs")
    return register


def _key(content: Mapping[str, Any]) -> Key:
    key = Key(**{**content, "models": tuple(content["models"])})
    for model in key.models:
        if model != ALL_MODELS:
            check_model_name(model)
    check_tenant(key.tenant)
    if not isinstance(key.id, str) or not all(isinstance(at, int) for at in (key.issued_at, key.expires_at)):
        raise ValueError("a key has no id or no time")
    if not isinstance(key.revoked_at, int | None):
        raise ValueError(f"key {key.id} was revoked at {key.revoked_at!r}")
    return key


def _signing(content: Mapping[str, Any]) -> SigningKey:
    key = SigningKey(**content)
    wanted = {"kty": "EC", "crv": "P-256", "kid": key.kid}
    if {name: key.jwk[name] for name in wanted} != wanted or "d" in key.jwk:
        raise ValueError(f"signing key {key.kid!r} is no public key of the curve P-256")
    if not isinstance(key.created_at, int) or not isinstance(key.accepted_until, int | None):
        raise ValueError(f"signing key {key.kid!r} has no time")
    return key
