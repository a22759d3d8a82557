"""`list`, `show` and `diff`: parsing, and what is printed."""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

from modelport import _render
from modelport.cli.app import Json, Repository, app
from modelport.repository.layout import DEFAULT_REPOSITORY


@app.command("list")
def list_command(
    name: Annotated[
        Optional[str],  # noqa: UP045 - typer reads the annotation at run time, on Python 3.10 too
        typer.Argument(help="Part of a model's name, or a pattern such as 'digits*'. Left out: all models."),
    ] = None,
    tag: Annotated[Optional[str], typer.Option(help="Only versions with this tag.")] = None,  # noqa: UP045
    alias: Annotated[Optional[str], typer.Option(help="Only versions with this alias.")] = None,  # noqa: UP045
    state: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Only `serving`, `retired`, `candidate`, `broken`, `empty` or `loaded` ones."),
    ] = None,
    framework: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Only versions that were trained with it, such as `keras`."),
    ] = None,
    metric: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Only versions for which this holds, such as `'accuracy>=0.95'`."),
    ] = None,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """List the models and versions of a repository, and how each stands.

    A version is *serving* (it answers requests that name no version), *retired* (it served before), a *candidate* (it
    never served), or *broken*, with the reason. *loaded* ones answer requests that name them.

    Example: `modelport list 'digits*' --state candidate --metric 'accuracy>=0.95'`
    """
    from modelport.commands.listing import list_models

    rows = list_models(repository, name=name, tag=tag, alias=alias, state=state, framework=framework, metric=metric)
    if json:
        _render.as_json(rows)
    elif rows:
        _print_list(rows)
    else:
        _render.ERR.print("no version is like this")


@app.command("show")
def show_command(
    model: Annotated[str, typer.Argument(help="NAME or NAME/VERSION.")],
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Show a version: its card, tensors, files and configuration.

    Example: `modelport show digits_cnn/1`
    """
    from modelport.commands.listing import show

    shown = show(model, repository=repository)
    if json:
        _render.as_json(shown)
        return
    row = shown.row
    _render.lines(f"{row.model} version {row.version}: {_state(row)}")
    facts = {
        "aliases": ", ".join(row.aliases),
        "tags": ", ".join(row.tags),
        "versions": ", ".join(map(str, shown.versions)),
        "a rollback goes to": f"version {shown.way_back}" if shown.way_back else "",
    }
    _render.lines(*(f"{what}: {words}" for what, words in facts.items() if words), "", shown.card)
    rows = [(name, _render.size(record.size_bytes), record.sha256) for name, record in shown.manifest.files.items()]
    _render.table("files", ("file", "size", "sha256"), rows)
    _render.table("made with", ("software", "version"), list(shown.manifest.makers.items()))
    _render.lines("config.pbtxt:", "", shown.config)


def _print_list(rows: list[Any]) -> None:
    columns = {
        "model": [row.model for row in rows],
        "version": ["" if row.version is None else row.version for row in rows],
        "state": [_state(row) for row in rows],
        "aliases": [", ".join(row.aliases) for row in rows],
        "tags": [", ".join(row.tags) for row in rows],
        "format": [row.format for row in rows],
        "trained with": [row.framework for row in rows],
        "size": [_render.size(row.size_bytes) if row.size_bytes else "" for row in rows],
        "created": [row.created.replace("T", " ").removesuffix("+00:00") for row in rows],
        "metric": [", ".join(f"{key} {value:.4g}" for key, value in row.metrics.items()) for row in rows],
    }
    shown = {name: cells for name, cells in columns.items() if any(cells) or name not in ("aliases", "tags")}
    _render.table("", list(shown), list(zip(*shown.values(), strict=True)))


def _state(row: Any) -> str:
    """The state, and `loaded` where that does not go without saying."""
    words = f"{row.state}, loaded" if row.loaded and row.state != "serving" else row.state
    return f"{words}: {row.problem}" if row.problem else words
