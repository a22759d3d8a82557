"""`plan`: parsing, and what is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from modelport import _render
from modelport.cli.app import Json, Repository, app, progress
from modelport.errors import UsageError
from modelport.repository.layout import DEFAULT_REPOSITORY

if TYPE_CHECKING:
    from modelport.commands.plan import Division, Row


@app.command("plan")
def plan_command(
    weights: Annotated[
        Optional[str],  # noqa: UP045 - typer reads the annotation at run time, on Python 3.10 too
        typer.Option(
            help="How much each model counts, such as `resnet18=3,digits_cnn=1`; 1 for others. Left out: its part of "
            "the running server's computing time, else all alike."
        ),
    ] = None,
    cores: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Divide so many, as for another machine. Left out: those that this process may use."),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write it into the models' `config.pbtxt`; a running server takes it up.")
    ] = False,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Divide this machine's cores among the models: instances x threads within the control group's quota.

    Models with a share of one core or more get whole cores; their instances are kept where the cores divide evenly
    among them, and `modelport tune` finds the best number. Models with less than one core get one instance with one
    thread, and take turns. While a server runs, it is about the models that it serves.

    Example: `modelport plan --weights resnet18=3,digits_cnn=1`
    """
    from modelport.commands.plan import plan

    with progress(quiet=json or not write) as told:
        chosen = None if weights is None else parse(weights)
        found = plan(repository, weights=chosen, total=cores, write=write, report=told)
    if json:
        _render.as_json(found)
    else:
        _show(found, asked_to_write=write)


def parse(text: str) -> dict[str, float]:
    """The weights in `model=3,other=1.5`."""
    found: dict[str, float] = {}
    for word in filter(None, (part.strip() for part in text.split(","))):
        model, sign, number = word.partition("=")
        try:
            found[model.strip()] = float(number) if sign else 1.0
        except ValueError as exc:
            raise UsageError(
                f"{word!r} is no weight",
                why=f"{number!r} is no number",
                fix="write it as --weights resnet18=3,digits_cnn=1",
            ) from exc
    return found


def _show(found: Division, *, asked_to_write: bool) -> None:
    quota = "no quota" if found.quota is None else f"a quota of {found.quota:g}"
    own = sum(row.own for row in found.rows)
    small = sum(not row.own for row in found.rows)
    _render.lines(
        f"{found.cores} cores to divide; this process may run on {found.affinity}, and has {quota}",
        f"weights: {found.explained}",
    )
    columns = ("model", "backend", "share", "own cores", "instances", "threads", "why")
    _render.table("", columns, [_cells(row) for row in found.rows])
    if small:
        left = found.cores - own
        _render.lines(f"{small} models with less than a core share {left or 'what the others leave'}")
    _render.lines(*(f"not planned: {model}: {why}" for model, why in found.left_out.items()))
    changes = [row.model for row in found.rows if row.changes]
    if not changes:
        _render.lines("the configurations say this already")
    elif asked_to_write:
        where = f"; {found.server} serves them so" if found.server else ""
        _render.lines(f"written: {', '.join(found.written)}{where}")
    else:
        _render.lines(f"--write changes {', '.join(changes)}")


def _cells(row: Row) -> tuple[object, ...]:
    instances = f"{row.instances_now} -> {row.instances}" if row.instances != row.instances_now else str(row.instances)
    threads = "its own" if not row.threads_now else str(row.threads)
    if row.threads_now and row.threads_now != row.threads:
        threads = f"{row.threads_now} -> {row.threads}"
    return (row.model, row.backend, round(row.share, 2), row.own, instances, threads, row.why)
