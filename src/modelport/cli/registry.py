"""`list` and `show`: parsing, and what is printed."""

from __future__ import annotations

from typing import Annotated

import typer

from modelport import _render
from modelport.cli.app import Json, Repository, app
from modelport.repository.layout import DEFAULT_REPOSITORY


@app.command("list")
def list_command(repository: Repository = DEFAULT_REPOSITORY, json: Json = False) -> None:
    """List the models and versions of a repository.

    Example: `modelport list --json`
    """
    from modelport.commands.listing import list_models

    rows = list_models(repository)
    if json:
        _render.as_json(rows)
        return
    columns = ("model", "version", "state", "format", "trained with", "size", "created", "metric")
    _render.table(
        "",
        columns,
        [
            (
                row.model,
                "" if row.version is None else row.version,
                f"{row.state}: {row.problem}" if row.problem else row.state,
                row.format,
                row.framework,
                _render.size(row.size_bytes) if row.size_bytes else "",
                row.created.replace("T", " ").removesuffix("+00:00"),
                ", ".join(f"{key} {value:.4g}" for key, value in row.metrics.items()),
            )
            for row in rows
        ],
    )


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
    _render.lines(f"{shown.row.model} version {shown.row.version} ({shown.row.state})", "", shown.card)
    rows = [(name, _render.size(record.size_bytes), record.sha256) for name, record in shown.manifest.files.items()]
    _render.table("files", ("file", "size", "sha256"), rows)
    _render.table("made with", ("software", "version"), list(shown.manifest.makers.items()))
    _render.lines("config.pbtxt:", "", shown.config)
