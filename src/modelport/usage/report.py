"""What was used in a time, by tenant, model, version or day; and the bills for it."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelport.errors import UsageError
from modelport.usage.lines import Counts
from modelport.usage.store import Store

if TYPE_CHECKING:
    from modelport.usage.prices import Bill, Prices

DAY, MONTH = "substr(hour, 1, 10)", "substr(hour, 1, 7)"
BY = {"tenant": ("tenant",), "model": ("model",), "version": ("model", "version"), "day": (DAY,)}
NOBODY = "-"  # in place of a tenant or model that is not known


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was used.

    Attributes:
        name: The tenant, model, version as `model/1`, or day; `-` where it is not known.
        answered: See `Counts`, also for those below.
        inferences: Rows.
        received_bytes: Bodies of requests that were answered.
        sent_bytes: Bodies of answers.
        compute_s: Seconds.
        refused: 4xx without 429.
        limited: 429.
        failed: 5xx.
        unanswered: Nobody got an answer.
    """

    name: str
    answered: int
    inferences: int
    received_bytes: int
    sent_bytes: int
    compute_s: float
    refused: int
    limited: int
    failed: int
    unanswered: int


@dataclass(frozen=True, kw_only=True)
class Period:
    """Some days, both ends included, in UTC.

    Attributes:
        since: The first.
        until: The last.
    """

    since: datetime.date
    until: datetime.date

    @property
    def months(self) -> tuple[str, ...]:
        """The months of which it has a day, such as `2026-03`."""
        first, last = (day.year * 12 + day.month - 1 for day in (self.since, self.until))
        return tuple(f"{number // 12:04d}-{number % 12 + 1:02d}" for number in range(first, last + 1))


def period(since: str | None, until: str | None, today: datetime.date) -> Period:
    """The days that are asked for.

    Args:
        since: As `YYYY-MM-DD`; the first day of this month when left out.
        until: The last day; today when left out.
        today: The day, in UTC.

    Raises:
        UsageError: One is no day, or the last one is before the first.
    """
    first = _day("--since", since, today.replace(day=1))
    last = _day("--until", until, max(today, first))
    if last < first:
        raise UsageError(f"--until {last} is before --since {first}", why="no day is between them", fix="swap them")
    return Period(since=first, until=last)


def rows(store: Store, by: str, days: Period, *, tenant: str | None = None, model: str | None = None) -> list[Row]:
    """What was used.

    Args:
        store: The counts.
        by: A key of `BY`.
        days: When.
        tenant: Only by this tenant.
        model: Only of this model.
    """
    found = store.sums(BY[by], str(days.since), str(days.until), tenant=tenant, model=model)
    return [row("/".join(_shown(words)), sums) for words, sums in found]


def bills(store: Store, prices: Prices, days: Period, *, tenant: str | None = None) -> list[Bill]:
    """What each tenant owes: those who used something, and those who have a plan of their own.

    Args:
        store: The counts.
        prices: The prices.
        days: When; what a plan says of a month holds for each month that has one of these days.
        tenant: Only for this one.
    """
    from modelport.usage.prices import bill

    used = store.sums(("tenant", MONTH), str(days.since), str(days.until), tenant=tenant)
    counts = {(name, month): sums for (name, month), sums in used if name}
    names = {name for name, _ in counts} | {name for name in prices.tenants if tenant in (None, name)}
    return [
        bill(prices, name, [(month, counts.get((name, month), Counts())) for month in days.months])
        for name in sorted(names)
    ]


def row(name: str, sums: Counts) -> Row:
    """Sums with a name."""
    return Row(
        name=name,
        answered=sums.answered,
        inferences=sums.inferences,
        received_bytes=sums.received_bytes,
        sent_bytes=sums.sent_bytes,
        compute_s=sums.compute_ns / 1e9,
        refused=sums.refused,
        limited=sums.limited,
        failed=sums.failed,
        unanswered=sums.unanswered,
    )


def _shown(words: tuple[str, ...]) -> list[str]:
    """The words of a row; a model without a known version is the model alone."""
    return [words[0] or NOBODY, *(word for word in words[1:] if word != "0")]


def _day(option: str, text: str | None, otherwise: datetime.date) -> datetime.date:
    if text is None:
        return otherwise
    try:
        return datetime.datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError as exc:
        raise UsageError(
            f"{option} {text!r} is no day", why="it is not written as YYYY-MM-DD", fix="write it as 2026-03-01"
        ) from exc
