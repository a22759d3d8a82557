"""`upgrade-check`: parsing, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from modelport import _render
from modelport.cli.app import Json, Repository, app
from modelport.repository.layout import DEFAULT_REPOSITORY

if TYPE_CHECKING:
    from modelport.commands.upgrade_check import Report


@app.command("upgrade-check")
def upgrade_check_command(
    to: Annotated[
        str, typer.Option("--to", help="Release to move to: a container's tag, or a Triton version.")
    ] = "26.09",
    since: Annotated[
        str,
        typer.Option(
            "--from", help="Release that is run now; left out, the compose file's, else the embedded server's."
        ),
    ] = "",
    compose: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--compose", metavar="FILE", help="Look at the Triton services of a compose file too."),
    ] = None,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Tell what a move to another release of Triton would change for this repository, without a server.

    Leaves with 0 when nothing stands in the way, with 1 where something has to be looked at first, with 2 where
    something that is served now would be refused. Each line names its source; what is not known is said to be unknown.

    Example: `modelport upgrade-check --from 24.10 --to 26.09 --compose docker-compose.yml`
    """
    from modelport.commands.upgrade_check import upgrade_check

    report = upgrade_check(repository, to=to, since=since, compose=compose)
    if json:
        _render.as_json(report.as_json())
    else:
        _show(report)
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _show(report: Report) -> None:
    items = [one for one in report.items if one.kind != "mended"]
    rows = [(one.severity, one.model or "(all)", one.place, one.id, one.what) for one in items]
    if rows:
        _render.table("", ("", "model", "where", "about", "what"), rows)
        reasons = {(one.id, one.why, one.fix, one.source): None for one in items}
        _render.table("what comes of it, and what to do", ("about", "why", "do", "source"), list(reasons))
    mended = {(one.id, one.what, one.source): None for one in report.items if one.kind == "mended"}
    if mended:
        _render.table("mended by the move", ("about", "what was wrong", "source"), list(mended))
    counts = ", ".join(
        f"{report.count(one)} {one}{'s' * (report.count(one) != 1)}" for one in ("error", "warning", "note")
    )
    _render.lines(f"from {report.before.words} to {report.after.words}, {len(report.models)} models: {counts}")
