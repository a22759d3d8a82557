"""`backup` and `restore`: parsing, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelport import _render
from modelport.cli.app import Json, Repository, app, progress
from modelport.repository.backup.contents import Backup
from modelport.repository.layout import DEFAULT_REPOSITORY


@app.command("backup")
def backup_command(
    file: Annotated[Path, typer.Argument(help="The file to write; compressed where it ends with .gz or .xz.")],
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Write the repository, the gateway's keys, quotas and usage into one file, while all of it is in use.

    The file holds the keys that sign tokens: only its owner may read it, and it belongs where secrets are kept. Logs
    are not in it; what is in the access log is counted as usage first.

    Example: `modelport backup models-2026-11-23.tar.gz`
    """
    from modelport.commands.backup import backup

    with progress(quiet=json) as report:
        done = backup(file, repository=repository, report=report)
    if json:
        _render.as_json(done)
        return
    _render.lines(
        f"{done.path}: {_held(done)}, {done.files} files, {_render.size(done.size_bytes)}",
        *(f"left out, for it is no ordinary file: {name}" for name in done.left_out),
        f"to put it back: modelport restore {done.path} --repository FOLDER",
    )


@app.command("restore")
def restore_command(
    file: Annotated[Path, typer.Argument(help="What `modelport backup` wrote.")],
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Put a backup back where no repository is, after comparing every version with its manifest.

    Example: `modelport restore models-2026-11-23.tar.gz --repository model_repository`
    """
    from modelport.commands.backup import restore

    with progress(quiet=json) as report:
        done = restore(file, repository=repository, report=report)
    if json:
        _render.as_json(done)
        return
    _render.lines(
        f"{repository}: {_held(done)}, as they were on {done.created}",
        f"to serve it: modelport serve --repository {repository}",
    )


def _held(done: Backup) -> str:
    return f"{len(done.models)} models, {sum(map(len, done.models.values()))} versions"
