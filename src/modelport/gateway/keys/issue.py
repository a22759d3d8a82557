"""What is done with keys: issue, revoke, replace the signing key, set a tenant's limits. Each is an event in the log.

Of a key, the log names the id and the tenant, nothing else.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from modelport.errors import UsageError
from modelport.gateway.keys import register
from modelport.gateway.keys.register import Register
from modelport.gateway.keys.values import Key, Limits, SigningKey
from modelport.repository import events

MAX_TOKEN = 8000  # letters; servers take headers up to some size only
Change = Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Issued:
    """A new key.

    Attributes:
        key: As the register has it.
        token: What the caller sends. It is kept nowhere.
        limits: The tenant's limits now.
        before: The tenant's limits before; None for a new tenant.
    """

    key: Key
    token: str = dataclasses.field(repr=False)
    limits: Limits
    before: Limits | None


@dataclass(frozen=True, kw_only=True)
class Rotated:
    """A new signing key.

    Attributes:
        signing: The one that signs from now on.
        accepted_until: Until when tokens that the one before signed are accepted; None where it has none.
        ended: Keys that are refused from then on although they have not expired.
    """

    signing: SigningKey
    accepted_until: int | None
    ended: tuple[Key, ...]


def create(
    repository: Path, tenant: str, models: tuple[str, ...], *, expires_s: float, limits: Change, now: int
) -> Issued:
    """Issue a key; the first one makes the signing key.

    Args:
        repository: The model repository.
        tenant: Whose it is.
        models: Models that it may ask, or `*` alone.
        expires_s: Seconds until it expires.
        limits: Fields of `Limits` that change for the tenant; None takes a limit away.
        now: Seconds since 1970.

    Raises:
        UsageError: The token would be too long.
        EnvironmentUnfitError: The signing key cannot be used.
    """
    from modelport.gateway.keys import signing

    def act(known: Register, folder: Path) -> tuple[Register, Issued]:
        signs = known.signs or signing.make(folder, now)
        signing.forget_others(folder, signs.kid)  # which a rotation that was killed may have left
        key = Key(
            id=_new_id(known),
            tenant=tenant,
            models=models,
            issued_at=now,
            expires_at=int(now + expires_s),
            signed_by=signs.kid,
        )
        token = signing.token(folder, signs, key)
        if len(token) > MAX_TOKEN:
            raise _too_long(len(token), len(models))
        before = known.tenants.get(tenant)
        after = dataclasses.replace(before or Limits(), **limits)  # type: ignore[arg-type]
        new = Register(
            signing=known.signing if known.signs else (signs,),
            keys={**known.keys, key.id: key},
            tenants={**known.tenants, tenant: after},
        )
        return new, Issued(key=key, token=token, limits=after, before=before)

    issued = register.change(repository, now, act)
    _tell(repository, "key_created", issued.key)
    if issued.before is not None and issued.before != issued.limits:
        _tell_limits(repository, tenant)
    return issued


def revoke(repository: Path, ids: Collection[str], tenant: str | None, *, now: int) -> list[Key]:
    """Refuse keys from now on.

    Args:
        repository: The model repository.
        ids: The keys; none for all of the tenant that have not expired.
        tenant: Whose they must be; None for anybody's.
        now: Seconds since 1970.

    Returns:
        The keys that are newly revoked; none of them where all were before.

    Raises:
        UsageError: Neither is given, there is no such key, or it is another tenant's; nothing is revoked then.
    """
    if not ids and tenant is None:
        raise UsageError("no key is named", why="neither an id nor a tenant was given", fix="name one of them")

    def act(known: Register, _: Path) -> tuple[Register, list[Key]]:
        theirs = {key.id for key in known.keys.values() if tenant in (None, key.tenant)}
        unknown = sorted(set(ids) - theirs)
        if unknown or not theirs:
            raise _no_key(unknown, tenant, known)
        wanted = set(ids) or {id for id in theirs if now < known.keys[id].expires_at}
        done = [
            dataclasses.replace(key, revoked_at=now)
            for key in known.keys.values()
            if key.id in wanted and key.revoked_at is None
        ]
        return dataclasses.replace(known, keys={**known.keys, **{key.id: key for key in done}}), done

    done = register.change(repository, now, act)
    for key in done:
        _tell(repository, "key_revoked", key)
    return done


def rotate(repository: Path, *, overlap_s: float | None, force: bool, now: int) -> Rotated:
    """Sign with a new key from now on, and forget the private half of the one before.

    Args:
        repository: The model repository.
        overlap_s: Seconds for which tokens of earlier signing keys are still accepted; None: until the last one that
            was issued and not revoked expires.
        force: Also where keys end before they expire.
        now: Seconds since 1970.

    Raises:
        UsageError: Keys would end before they expire, and `force` is not given.
    """
    from modelport.gateway.keys import signing

    def act(known: Register, folder: Path) -> tuple[Register, Rotated]:
        earlier = tuple(_ending(key, known, overlap_s, now) for key in known.signing)
        until = {key.kid: key.accepted_until or now for key in earlier}
        ended = tuple(key for key in known.active(now) if key.expires_at > until[key.signed_by])
        if ended and not force:
            raise _would_end(ended, overlap_s or 0)
        new = signing.make(folder, now)
        last = max((at for at in until.values() if at > now), default=None)
        after = dataclasses.replace(known, signing=(*earlier, new))
        return after, Rotated(signing=new, accepted_until=last, ended=ended)

    rotated = register.change(repository, now, act)
    register.change(repository, now, _forget)
    events.append(repository, events.event("signing_key_rotated", "keys are signed with a new key from now on"))
    return rotated


def set_limits(repository: Path, tenant: str, limits: Change, *, now: int) -> Limits:
    """Change a tenant's limits.

    Args:
        repository: The model repository.
        tenant: One that has or had a key.
        limits: Fields of `Limits` that change; None takes a limit away.
        now: Seconds since 1970.

    Raises:
        UsageError: There is no such tenant.
    """

    def act(known: Register, _: Path) -> tuple[Register, tuple[Limits, Limits]]:
        before = known.tenants.get(tenant)
        if before is None:
            raise no_tenant(tenant, known.tenants)
        after = dataclasses.replace(before, **limits)  # type: ignore[arg-type]
        return dataclasses.replace(known, tenants={**known.tenants, tenant: after}), (before, after)

    before, after = register.change(repository, now, act)
    if after != before:
        _tell_limits(repository, tenant)
    return after


def no_tenant(tenant: str, known: Collection[str]) -> UsageError:
    """The error for a tenant that never had a key."""
    return UsageError(
        f"there is no tenant {tenant!r}",
        why=f"those with keys are {', '.join(sorted(known))}" if known else "no key was made yet",
        fix=f"check the name, or make a key first: modelport keys create --tenant {tenant} --models ...",
    )


def _forget(known: Register, folder: Path) -> tuple[Register, None]:
    """Remove the private halves of all keys but the one that signs, which the register has on the disk already."""
    from modelport.gateway.keys import signing

    if known.signs is not None:
        signing.forget_others(folder, known.signs.kid)
    return known, None


def _ending(key: SigningKey, known: Register, overlap_s: float | None, now: int) -> SigningKey:
    """An earlier signing key, with the moment until which it is accepted."""
    if overlap_s is not None:
        until = now + int(overlap_s)
        return dataclasses.replace(key, accepted_until=min(until, key.accepted_until or until))
    if key.accepted_until is not None:
        return key
    last = max((issued.expires_at for issued in known.active(now) if issued.signed_by == key.kid), default=now)
    return dataclasses.replace(key, accepted_until=last)


def _new_id(known: Register) -> str:
    while (new := secrets.token_hex(6)) in known.keys:
        pass
    return new


def _tell(repository: Path, kind: str, key: Key) -> None:
    text = f"key {key.id} of tenant {key.tenant}"
    events.append(repository, events.event(kind, text, key=key.id, tenant=key.tenant))


def _tell_limits(repository: Path, tenant: str) -> None:
    events.append(repository, events.event("limits_changed", f"the limits of tenant {tenant} changed", tenant=tenant))


def _too_long(length: int, models: int) -> UsageError:
    return UsageError(
        f"a key for {models} models cannot be made",
        why=f"its token would have {length} letters, and {MAX_TOKEN} are the most that every server takes in a header",
        fix="make several keys, or one for all models with --models '*'",
    )


def _no_key(unknown: Collection[str], tenant: str | None, known: Register) -> UsageError:
    whose = "" if tenant is None else f" of tenant {tenant!r}"
    what = f"there is no key {', '.join(unknown)}{whose}" if unknown else f"there is no key{whose}"
    return UsageError(
        what,
        why=f"nothing was revoked; the register has {len(known.keys)} keys"
        + ("" if tenant is None else f", {sum(key.tenant == tenant for key in known.keys.values())} of this tenant"),
        fix="'modelport keys list' shows the ids",
    )


def _would_end(ended: Collection[Key], overlap_s: float) -> UsageError:
    names = ", ".join(f"{key.id} ({key.tenant})" for key in list(ended)[:5]) + (", ..." if len(ended) > 5 else "")
    return UsageError(
        f"with an overlap of {overlap_s:g} s, {len(ended)} keys end before they expire",
        why=f"they are signed with a key that is then refused: {names}",
        fix="leave --overlap out to accept them until they expire; --force ends them, such as after a theft of the key",
    )
