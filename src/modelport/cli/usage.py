"""`usage`: parsing, and what is printed: a table, CSV or JSON."""

from __future__ import annotations

import csv
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from modelport import _render
from modelport.cli.app import Json, Repository, app
from modelport.errors import UsageError
from modelport.repository.layout import DEFAULT_REPOSITORY

if TYPE_CHECKING:
    from modelport.commands.usage import Usage

_COLUMNS = ("answered", "inferences", "received", "sent", "compute s", "4xx", "429", "5xx", "no answer")


@app.command("usage")
def usage_command(
    by: Annotated[str, typer.Option(help="`tenant`, `model`, `version` or `day`.")] = "tenant",
    since: Annotated[
        Optional[str],  # noqa: UP045 - typer reads the annotation at run time, on Python 3.10 too
        typer.Option(help="The first day (UTC), such as 2026-03-01; else the first of this month."),
    ] = None,
    until: Annotated[Optional[str], typer.Option(help="The last day (UTC); else today.")] = None,  # noqa: UP045
    tenant: Annotated[Optional[str], typer.Option(help="Only what this tenant used.")] = None,  # noqa: UP045
    model: Annotated[Optional[str], typer.Option(help="Only of this model.")] = None,  # noqa: UP045
    prices: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(envvar="MODELPORT_PRICES", help="TOML file with prices: also tell what each tenant owes."),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Tell what was used through the gateway: requests, inferences, bytes, compute time, errors.

    Only requests that were answered count; errors are counted apart. It works while the service runs, and when it does
    not. See `docs/usage.md` for what is counted, and for prices.

    Example: `modelport usage --by tenant --since 2026-03-01 --until 2026-03-31 --prices prices.toml`
    """
    from modelport.commands.usage import usage

    if as_csv and json:
        raise UsageError("--csv and --json exclude each other", why="there is one output", fix="leave one out")
    found = usage(by=by, since=since, until=until, tenant=tenant, model=model, prices=prices, repository=repository)
    if json:
        _render.as_json({**_plain(found), "since": str(found.days.since), "until": str(found.days.until)})
    elif as_csv:
        _as_csv(found)
    else:
        _as_table(found)
    if found.unreadable:
        _render.error(f"modelport: warning: lines of the access log that could not be read so far: {found.unreadable}")


def _plain(found: Usage) -> dict[str, Any]:
    """For JSON. Amounts are strings: as numbers they would lose their exactness."""
    content: dict[str, Any] = {"by": found.by, "rows": found.rows, "unreadable": found.unreadable}
    if found.bills is not None:
        content["bills"] = [
            {
                **dataclasses.asdict(bill),
                "amount": str(bill.amount),
                "positions": [
                    {
                        key: value if isinstance(value, int) else str(value)
                        for key, value in dataclasses.asdict(one).items()
                    }
                    for one in bill.positions
                ],
            }
            for bill in found.bills
        ]
    return content


def _as_csv(found: Usage) -> None:
    from modelport.usage.report import Row

    bills = None if found.bills is None else {bill.tenant: bill for bill in found.bills}
    out = csv.writer(sys.stdout, lineterminator="\n")
    figures = [field.name for field in dataclasses.fields(Row)][1:]
    out.writerow([found.by, *figures, *(() if bills is None else ("amount", "currency"))])
    for row in found.rows:
        bill = (bills or {}).get(row.name)
        money = () if bills is None else (str(bill.amount), bill.currency) if bill else ("", "")
        out.writerow([*dataclasses.astuple(row), *money])


def _as_table(found: Usage) -> None:
    rows = [
        (
            *(row.name, row.answered, row.inferences, _render.size(row.received_bytes), _render.size(row.sent_bytes)),
            *(round(row.compute_s, 3), row.refused, row.limited, row.failed, row.unanswered),
        )
        for row in found.rows
    ]
    _render.table(f"{found.days.since} to {found.days.until}, UTC", (found.by, *_COLUMNS), rows)
    for bill in found.bills or ():
        positions = [
            (
                one.month,
                one.what,
                f"{one.quantity:f}",
                f"{one.included:f}",
                f"{one.price:f} / {one.per}",
                str(one.amount),
            )
            for one in bill.positions
        ]
        title = f"{bill.tenant}: {bill.amount} {bill.currency}"
        if positions:
            _render.table(title, ("month", "for", "used", "included", "price", bill.currency), positions)
        else:
            _render.lines(title)
