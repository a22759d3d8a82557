"""`doctor`: parsing, and what is printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from modelport import _render
from modelport.cli.app import Json, Repository, app, progress
from modelport.repository.layout import DEFAULT_REPOSITORY

if TYPE_CHECKING:
    from modelport.commands.doctor import Report

_MANY = 4  # places of a note that are named


@app.command("doctor")
def doctor_command(
    models: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Models to look at. None: all, and the repository itself.", metavar="MODELS"),
    ] = None,
    target: Annotated[
        str, typer.Option("--target", "-t", help="Container to check against: `24.10` or `26.09`.")
    ] = "26.09",
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Repair what is safe. Nothing is deleted: see REPOSITORY.state/set-aside."),
    ] = False,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Check the files of a repository, this project's or any other Triton repository, without a server.

    Leaves with 0 when there are no errors and no warnings, with 1 for warnings only, with 2 for errors.
    The rules are in `docs/doctor.md`.

    Example: `modelport doctor --repository model_repository --target 24.10`
    """
    from modelport.commands.doctor import doctor

    with progress(quiet=json or not fix) as told:
        report = doctor(repository, models or (), target=target, fix=fix, report=told)
    if json:
        _render.as_json(report.as_json())
    else:
        _show(report)
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _show(report: Report) -> None:
    """What was done; what was found, by model; each rule's reason and repair once; the count."""
    _render.lines(*report.done)
    serious = [finding for finding in report.findings if finding.severity != "note"]
    if serious:
        found = [(f.model, f.severity, f.place, f.rule, f.what) for f in serious]
        _render.table("", ("model", "", "where", "rule", "found"), [_once(found, index) for index in range(len(found))])
    notes: dict[str, list[str]] = {}
    for finding in report.findings:
        if finding.severity == "note":
            notes.setdefault(finding.rule, []).append(finding.place)
    if notes:
        _render.table("notes", ("rule", "where"), [(rule, _some(places)) for rule, places in sorted(notes.items())])
    reasons: dict[tuple[str, str, str], bool] = {}
    for f in report.findings:
        reason = (f.rule, f.why, f.fix)
        reasons[reason] = reasons.get(reason, False) or f.fixable
    if reasons:
        rows = [(rule, why, fix + (" (--fix does it)" if ours else "")) for (rule, why, fix), ours in reasons.items()]
        _render.table("what comes of it, and what to do", ("rule", "why", "do"), sorted(rows))
    fixable = sum(finding.fixable for finding in report.findings)
    _render.lines(
        ", ".join(_count(report.count(severity), severity) for severity in ("error", "warning", "note"))
        + f" in {_count(len(report.models), 'model')}, checked against the container {report.target}"
        + (f"; --fix repairs {fixable}" if fixable else "")
    )


def _once(rows: Sequence[tuple[str, ...]], index: int) -> tuple[str, ...]:
    """A row with the model's name only where a new model begins."""
    same = index > 0 and rows[index - 1][0] == rows[index][0]
    return ("" if same else rows[index][0] or "(repository)", *rows[index][1:])


def _some(places: Sequence[str]) -> str:
    more = f" and {len(places) - _MANY} more" if len(places) > _MANY else ""
    return ", ".join(places[:_MANY]) + more


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
