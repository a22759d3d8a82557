"""`keys create`, `list`, `revoke`, `rotate`, `limits`: parsing, and what is printed. The token alone goes to stdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from modelport import _render
from modelport.cli.app import Json, Repository, app
from modelport.gateway import units
from modelport.gateway.keys.values import check_tenant
from modelport.repository.layout import DEFAULT_REPOSITORY

keys = typer.Typer(
    name="keys",
    help="Keys of callers: who may ask which models at the gateway, how often, and until when.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.add_typer(keys)

Rate = Annotated[
    Optional[str],  # noqa: UP045 - typer reads the annotation at run time, on Python 3.10 too
    typer.Option(help="Requests in a time, such as `50/s` or `1000/min`; `none`: no limit."),
]
Burst = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Requests that may come at once after a pause; `none`: as many as in a second."),
]
Daily = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Requests in a day (UTC); `none`: no limit."),
]
Concurrency = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Requests on their way at once; `none`: the gateway's own limit alone."),
]
Body = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="The largest request, such as `8MiB`; `none`: the gateway's own limit alone."),
]
Tenant = Annotated[Optional[str], typer.Option(help="Only keys of this tenant.")]  # noqa: UP045


@keys.command("create")
def create_command(
    tenant: Annotated[str, typer.Option(help="Whose key it is: letters, digits and `_.-`.")],
    models: Annotated[str, typer.Option(help="Models that it may ask, with commas between; `*`: all.")],
    rate: Rate = None,
    burst: Burst = None,
    daily: Daily = None,
    concurrency: Concurrency = None,
    body: Body = None,
    expires: Annotated[str, typer.Option(help="In how long it expires, such as `12h` or `30d`.")] = "30d",
    token_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--token-file", help="Write the token to this file, which only you may read, and print none."),
    ] = None,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Issue a key. Its token is the only thing on standard output, it is shown this once, and it is kept nowhere.

    Limits belong to the tenant and hold for all its keys together; those that are left out stay as they are.

    Example: `modelport keys create --tenant acme --models digits_cnn,resnet18 --rate 50/s --daily 100000 --expires 30d`
    """
    from modelport.commands.keys import create

    given: dict[str, Any] = units.read(
        {
            "--tenant": (check_tenant, tenant),
            "--expires": (units.duration, expires),
            **_limit_texts(rate, burst, daily, concurrency, body),
        }
    )
    tenant, expires_s = given.pop("--tenant"), given.pop("--expires")
    made = create(
        tenant,
        [name.strip() for name in models.split(",") if name.strip()],
        limits=_limits(given),
        expires_s=expires_s,
        token_file=token_file,
        repository=repository,
    )
    for warning in made.warnings:
        _render.error(f"modelport: warning: {warning}")
    if json:
        _render.as_json(made)
        return
    key = made.key
    _render.error(f"key {key.id} of tenant {key.tenant} for {_models(key.models)}, until {_time(key.expires_at)}")
    _render.error(f"limits of tenant {key.tenant}: {_words(made.limits)}")
    if made.token is None:
        _render.error(f"the token is in {made.token_file}, and nowhere else")
    else:
        _render.error("the token stands on standard output, this once; it is kept nowhere")
        _render.lines(made.token)


@keys.command("list")
def list_command(
    tenant: Tenant = None,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """List the keys that were issued, without their tokens.

    A key is *active*, *revoked*, *expired*, or *refused*: the signing key that signed it is no longer accepted.

    Example: `modelport keys list --tenant acme`
    """
    from modelport.commands.keys import list_keys

    rows = list_keys(tenant=tenant, repository=repository)
    if json:
        _render.as_json(rows)
    elif rows:
        _print_keys(rows)
    else:
        _render.ERR.print("no key was issued")


@keys.command("revoke")
def revoke_command(
    ids: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Ids of keys. Left out: all of the tenant.", metavar="ID"),
    ] = None,
    tenant: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Whose they must be; without ids, all of this tenant's."),
    ] = None,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Revoke keys: the gateway refuses them within 5 s, and drops no connection.

    Example: `modelport keys revoke 0123456789ab --tenant acme`
    """
    from modelport.commands.keys import revoke

    rows = revoke(ids or (), tenant=tenant, repository=repository)
    if json:
        _render.as_json(rows)
    elif rows:
        _render.lines(*(f"revoked key {row.id} of tenant {row.tenant} for {_models(row.models)}" for row in rows))
    else:
        _render.lines("nothing to revoke: they were revoked before, or have expired")


@keys.command("rotate")
def rotate_command(
    overlap: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="For how long keys that were signed before are accepted. Left out: until each expires."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also where keys then end before they expire.")] = False,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Sign keys with a new signing key from now on, and delete the private half of the one before.

    Keys that were issued go on being accepted until they expire. After a theft of the signing key they must not be:
    `--overlap 0 --force` ends them all, and callers need new ones.

    Example: `modelport keys rotate`
    """
    from modelport.commands.keys import rotate

    given: Any = units.read({"--overlap": (units.duration, overlap)})
    done = rotate(overlap_s=given.get("--overlap"), force=force, repository=repository)
    if json:
        _render.as_json(done)
        return
    _render.lines(f"keys are signed with the new signing key {done.signing_key} from now on")
    until = "no longer accepted" if done.accepted_until is None else f"accepted until {_time(done.accepted_until)}"
    _render.lines(f"keys that were signed before are {until}")
    for row in done.ended:
        _render.lines(f"key {row.id} of tenant {row.tenant} ends then, before it expires")


@keys.command("limits")
def limits_command(
    tenant: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="Whose. Left out: all tenants."),
    ] = None,
    rate: Rate = None,
    burst: Burst = None,
    daily: Daily = None,
    concurrency: Concurrency = None,
    body: Body = None,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Show or change what a tenant may do, with all its keys together.

    Example: `modelport keys limits acme --rate 100/s --daily none`
    """
    from modelport.commands.keys import limits

    change = _limits(units.read(_limit_texts(rate, burst, daily, concurrency, body)))
    found = limits(tenant, change, repository=repository)
    if json:
        _render.as_json(dict(found))
    elif found:
        _render.lines(*(f"{name}: {_words(known)}" for name, known in found.items()))
    else:
        _render.ERR.print("no tenant has a key")


def _limit_texts(
    rate: str | None, burst: str | None, daily: str | None, concurrency: str | None, body: str | None
) -> dict[str, Any]:
    readers = {
        "--rate": (units.rate, rate),
        "--burst": (units.count, burst),
        "--daily": (units.count, daily),
        "--concurrency": (units.count, concurrency),
        "--body": (units.size, body),
    }
    return {option: (units.or_none(reader), text) for option, (reader, text) in readers.items()}


def _limits(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, by the names of `Limits`."""
    names = {"--rate": "rate_per_s", "--body": "body_bytes"}
    return {names.get(option, option.removeprefix("--")): value for option, value in given.items()}


def _words(limits: Any) -> str:
    words = {
        "{}": limits.rate_per_s and units.as_rate(limits.rate_per_s),
        "{} at once after a pause": limits.burst,
        "{} a day": limits.daily,
        "{} on their way at once": limits.concurrency,
        "requests of {} bytes": limits.body_bytes,
    }
    return ", ".join(text.format(value) for text, value in words.items() if value) or "none of its own"


def _print_keys(rows: Sequence[Any]) -> None:
    columns = ("id", "tenant", "models", "issued", "expires", "state")
    cells = [
        (row.id, row.tenant, _models(row.models), _time(row.issued_at), _time(row.expires_at), row.state)
        for row in rows
    ]
    _render.table("", columns, cells)


def _models(names: Sequence[str]) -> str:
    return "all models" if tuple(names) == ("*",) else ", ".join(names)


def _time(iso: str) -> str:
    return f"{iso[:16].replace('T', ' ')} UTC"
