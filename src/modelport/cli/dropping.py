"""`adopt`: parsing, and what is printed."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from modelport import _render
from modelport.cli.app import Json, Repository, app, progress
from modelport.repository.layout import DEFAULT_REPOSITORY

MEBIBYTE = 1 << 20


@app.command("adopt")
def adopt_command(
    version: Annotated[str, typer.Argument(help="NAME/VERSION: a folder that was copied into the repository.")],
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Take also models that are code; you trust whoever made them.")
    ] = False,
    candidate: Annotated[
        bool, typer.Option("--candidate", help="Take it out of the version policy, where config.pbtxt names it.")
    ] = False,
    memory_mib: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--memory-limit", min=256, help="Most MiB of memory to take; the priority is lowered as well."),
    ] = None,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Check a version folder that was copied in, and give it what a published version has. It is not served yet.

    `modelport serve` does this by itself for folders that are copied in while it runs.

    Example: `modelport adopt digits_cnn/2`
    """
    from modelport.commands.adopt import adopt

    with progress(quiet=json) as report:
        done = adopt(
            version,
            repository=repository,
            allow_code=allow_code,
            candidate=candidate,
            memory_limit_bytes=None if memory_mib is None else memory_mib * MEBIBYTE,
            report=report,
        )
    if json:
        _render.as_json(done)
        return
    _render.lines(f"adopted {done.model} version {done.version} in {done.folder}: {done.state}")
    columns = ("output", "samples", "max error", "allowed")
    rows = [(c.tensor, c.samples, c.max_abs_error, c.allowed) for c in done.evidence.comparisons.values()]
    _render.table(f"compared with {done.evidence.reference}", columns, rows)
    _render.lines(*(f"note: {note}" for note in done.notes))
    if done.state == "candidate":
        _render.lines(f"to let it serve: modelport promote {done.model} {done.version}")
