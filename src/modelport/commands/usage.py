"""The verb `usage`: what tenants used, by tenant, model, version or day; and what they owe for it."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelport.errors import UsageError
from modelport.repository.layout import DEFAULT_REPOSITORY, model_names
from modelport.server import connection
from modelport.usage import report
from modelport.usage.counter import Counter
from modelport.usage.lines import Counts
from modelport.usage.report import BY, Period, Row
from modelport.usage.store import Store

if TYPE_CHECKING:
    from modelport.usage.prices import Bill


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What was used.

    Attributes:
        by: What the rows are of: `tenant`, `model`, `version` or `day`.
        days: When.
        rows: What was used.
        bills: What tenants owe; None where no prices are given.
        unreadable: Lines of the access log, of all times, that could not be read.
    """

    by: str
    days: Period
    rows: list[Row]
    bills: list[Bill] | None
    unreadable: int


def usage(
    *,
    by: str = "tenant",
    since: str | None = None,
    until: str | None = None,
    tenant: str | None = None,
    model: str | None = None,
    prices: Path | None = None,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
) -> Usage:
    """What was used. What the gateway logged until now, and nobody counted yet, is counted first.

    Args:
        by: `tenant`, `model`, `version` or `day`.
        since: The first day, as `YYYY-MM-DD`, in UTC; the first of this month when left out.
        until: The last day; today when left out.
        tenant: Only what this tenant used.
        model: Only of this model.
        prices: A file with prices, for the tenants' bills.
        repository: Folder of the model repository.

    Raises:
        UsageError: The options do not go together, or the file with prices cannot be.
        RepositoryError: There is no such repository, or its counts cannot be read.
    """
    root, days = Path(repository), report.period(since, until, datetime.datetime.now(datetime.timezone.utc).date())
    if by not in BY:
        raise UsageError(f"usage is not told by {by!r}", why=f"it is by {', '.join(BY)}", fix="name one of these")
    if prices is not None and (by != "tenant" or model is not None):
        raise UsageError(
            "--prices goes with --by tenant, and without --model",
            why="an amount belongs to all that a tenant used",
            fix="leave the other option out",
        )
    plans = None
    if prices is not None:
        from modelport.usage import prices as known  # pydantic takes a while to import

        plans = known.read(prices)
    model_names(root)
    with Store(root) as store:
        Counter(root, store, lambda: _statistics(root)).take_in()
        rows = report.rows(store, by, days, tenant=tenant, model=model)
        bills = None if plans is None else report.bills(store, plans, days, tenant=tenant)
        unreadable = store.damaged()
    idle = {bill.tenant for bill in bills or ()} - {row.name for row in rows}
    rows += [report.row(name, Counts()) for name in sorted(idle)]
    return Usage(by=by, days=days, rows=rows, bills=bills, unreadable=unreadable)


def _statistics(repository: Path) -> list[dict[str, Any]]:
    """Triton's statistics, where a server runs.

    Raises:
        ServerError: It does not tell them.
    """
    running = connection.find(repository)
    return [] if running is None else running.statistics()
