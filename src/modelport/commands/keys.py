"""The verbs of `keys`: issue keys to callers, list and revoke them, replace the signing key, set a tenant's limits."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modelport.errors import RepositoryError, UsageError
from modelport.gateway import private
from modelport.gateway.keys import issue, register
from modelport.gateway.keys.register import Register
from modelport.gateway.keys.values import ALL_MODELS, Key, Limits, check_tenant
from modelport.repository.layout import DEFAULT_REPOSITORY, model_names
from modelport.spec import check_model_name

DAY_S = 86400.0
MAX_EXPIRES_S = 3650 * DAY_S


@dataclass(frozen=True, kw_only=True)
class KeyRow:
    """An issued key, without its token.

    Attributes:
        id: 12 hexadecimal digits.
        tenant: Whose it is.
        models: Models that it may ask, or `*` alone.
        issued_at: UTC time, ISO 8601.
        expires_at: The same.
        revoked_at: The same; None where it was not.
        state: `active`, `revoked`, `expired`, or `refused`: its signing key was replaced and is no longer accepted.
    """

    id: str
    tenant: str
    models: tuple[str, ...]
    issued_at: str
    expires_at: str
    revoked_at: str | None
    state: str


@dataclass(frozen=True, kw_only=True)
class Created:
    """A new key.

    Attributes:
        key: As the list shows it.
        token: What the caller sends, kept nowhere; None where it went to a file.
        token_file: That file; None where there is none.
        limits: The limits of its tenant, which hold for all its keys together.
        warnings: What may not be meant.
    """

    key: KeyRow
    token: str | None = field(repr=False)
    token_file: Path | None
    limits: Limits
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Rotated:
    """A new signing key.

    Attributes:
        signing_key: Its `kid`, which stands in the header of each token.
        accepted_until: Until when tokens of earlier signing keys are accepted, UTC, ISO 8601; None: they are not.
        ended: Keys that are refused from then on although they have not expired.
    """

    signing_key: str
    accepted_until: str | None
    ended: tuple[KeyRow, ...]


def create(
    tenant: str,
    models: Sequence[str],
    *,
    limits: issue.Change | None = None,
    expires_s: float = 30 * DAY_S,
    token_file: Path | None = None,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
) -> Created:
    """Issue a key to a tenant. The token is given here and never again.

    Args:
        tenant: Whose it is: a letter or digit, then letters, digits, `_`, `.`, `-`.
        models: Models that it may ask; `*` alone for all, also those to come.
        limits: Fields of `Limits` that change for the tenant; None takes one away. Those left out stay.
        expires_s: Seconds until it expires, ten years at most.
        token_file: File for the token, which only its owner may read.
        repository: Folder of the model repository.

    Raises:
        InvalidNameError: The tenant or a model has no name that can be.
        UsageError: Models, expiry, limits or the token's file cannot be.
        RepositoryError: There is no repository, or it cannot be written.
        EnvironmentUnfitError: The signing key cannot be used.
    """
    root = Path(repository)
    check_tenant(tenant)
    wanted = _models(models)
    if not 1 <= expires_s <= MAX_EXPIRES_S:
        raise UsageError(
            f"a key cannot expire in {expires_s:g} s", why="a second to ten years can be", fix="choose such"
        )
    if token_file is not None:
        _check_target(token_file)
    present = model_names(root)
    now = int(time.time())
    made = issue.create(root, tenant, wanted, expires_s=expires_s, limits=limits or {}, now=now)
    if token_file is not None:
        _write_token(root, token_file, made, now)
    missing = [name for name in wanted if name != ALL_MODELS and name not in present]
    warnings = [f"the repository has no model {name!r} yet" for name in missing]
    if made.before is not None and made.before != made.limits:
        others = sum(key.tenant == tenant for key in register.read(root).active(now)) - 1
        warnings.append(f"the limits of tenant {tenant!r} changed; they hold for its {others} other active keys too")
    return Created(
        key=_row(made.key, "active"),
        token=None if token_file else made.token,
        token_file=token_file,
        limits=made.limits,
        warnings=tuple(warnings),
    )


def list_keys(*, tenant: str | None = None, repository: str | os.PathLike[str] = DEFAULT_REPOSITORY) -> list[KeyRow]:
    """The issued keys, the oldest first; those that expired more than 90 days ago are forgotten. Never a token.

    Args:
        tenant: Only this one's.
        repository: Folder of the model repository.

    Raises:
        RepositoryError: There is no repository.
        UsageError: The tenant never had a key.
    """
    root = Path(repository)
    model_names(root)
    known = register.read(root)
    if tenant is not None and tenant not in known.tenants:
        raise issue.no_tenant(tenant, known.tenants)
    return [row for row in _rows(known.keys.values(), known) if tenant in (None, row.tenant)]


def revoke(
    ids: Collection[str] = (),
    *,
    tenant: str | None = None,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
) -> list[KeyRow]:
    """Refuse keys from now on; the gateway does so within 5 s. One that was revoked before stays so.

    Args:
        ids: The keys; none for all of the tenant.
        tenant: Whose they must be.
        repository: Folder of the model repository.

    Returns:
        The keys that are newly revoked.

    Raises:
        RepositoryError: There is no repository.
        UsageError: There is no such key; nothing is revoked then.
    """
    root = Path(repository)
    model_names(root)
    done = issue.revoke(root, ids, tenant, now=int(time.time()))
    return [_row(key, "revoked") for key in done]


def rotate(
    *,
    overlap_s: float | None = None,
    force: bool = False,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
) -> Rotated:
    """Sign keys with a new signing key from now on; the private half of the one before is deleted.

    Args:
        overlap_s: Seconds for which keys that were signed before are still accepted; None: until each expires.
        force: Also where keys end before they expire.
        repository: Folder of the model repository.

    Raises:
        RepositoryError: There is no repository.
        UsageError: Keys would end before they expire, and `force` is not given.
    """
    root = Path(repository)
    model_names(root)
    if overlap_s is not None and not 0 <= overlap_s <= MAX_EXPIRES_S:
        raise UsageError(f"an overlap of {overlap_s:g} s cannot be", why="0 s to ten years can", fix="choose such")
    now = int(time.time())
    done = issue.rotate(root, overlap_s=overlap_s, force=force, now=now)
    return Rotated(
        signing_key=done.signing.kid,
        accepted_until=None if done.accepted_until is None else _iso(done.accepted_until),
        ended=tuple(_row(key, "active" if (done.accepted_until or now) > now else "refused") for key in done.ended),
    )


def limits(
    tenant: str | None = None,
    change: issue.Change | None = None,
    *,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
) -> Mapping[str, Limits]:
    """Tell or change what tenants may do. The limits hold for all keys of a tenant together.

    Args:
        tenant: One that has or had a key; None for all.
        change: Fields of `Limits` that change; None takes one away.
        repository: Folder of the model repository.

    Returns:
        Tenant to its limits now.

    Raises:
        RepositoryError: There is no repository.
        UsageError: There is no such tenant, or a limit cannot be.
    """
    root = Path(repository)
    model_names(root)
    if change and tenant is None:
        raise UsageError("no tenant is named", why="limits belong to a tenant", fix="name whose limits change")
    if tenant is not None and change:
        return {tenant: issue.set_limits(root, tenant, change, now=int(time.time()))}
    known = register.read(root).tenants
    if tenant is None:
        return dict(sorted(known.items()))
    if tenant not in known:
        raise issue.no_tenant(tenant, known)
    return {tenant: known[tenant]}


def _models(models: Sequence[str]) -> tuple[str, ...]:
    """The models' names, each once."""
    wanted = tuple(dict.fromkeys(models))
    if not wanted or (ALL_MODELS in wanted and len(wanted) > 1):
        raise UsageError(
            f"a key for the models {', '.join(wanted) or '(none)'} cannot be made",
            why="a key is for at least one model; '*' means all, and stands alone",
            fix="write for example --models digits_cnn,resnet18, or --models '*'",
        )
    return tuple(name if name == ALL_MODELS else check_model_name(name) for name in wanted)


def _check_target(path: Path) -> None:
    """Find out before a key is made whether its token can be written; devices and folders are not replaced."""
    why = ""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        why = "it is there, and no plain file"
    elif path.exists() and path.stat().st_size:
        why = "it is there, and may hold the only copy of another token"
    elif not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        why = f"{path.parent} is no folder that can be written"
    if why:
        raise UsageError(f"the token cannot be written to {path}", why=why, fix="name a new file in a folder of yours")


def _write_token(root: Path, path: Path, made: issue.Issued, now: int) -> None:
    try:
        private.write(path, f"{made.token}\n".encode())
    except OSError as exc:
        issue.revoke(root, [made.key.id], None, now=now)  # nobody has the token
        raise RepositoryError(
            f"the token could not be written to {path}",
            why=f"the system said: {exc}",
            fix=f"name another file; key {made.key.id} is revoked",
            path=str(path),
        ) from exc


def _rows(keys: Collection[Key], known: Register) -> list[KeyRow]:
    now = time.time()
    return [_row(key, known.state_of(key, now)) for key in keys]


def _row(key: Key, state: str) -> KeyRow:
    return KeyRow(
        id=key.id,
        tenant=key.tenant,
        models=key.models,
        issued_at=_iso(key.issued_at),
        expires_at=_iso(key.expires_at),
        revoked_at=None if key.revoked_at is None else _iso(key.revoked_at),
        state=state,
    )


def _iso(at: int) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.timezone.utc).isoformat(timespec="seconds")
