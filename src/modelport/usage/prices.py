"""Prices, and what tenants owe by them. All arithmetic is decimal; each position is rounded, so that a bill adds up.

currency = "EUR"

[default]
per_1000_inferences = 0.40

[tenants.acme]
per_month = 20
per_1000_inferences = 0.25
included = { inferences = 100000 }
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modelport.errors import UsageError
from modelport.usage.lines import Counts

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

GB = Decimal(10) ** 9
_STRICT = ConfigDict(extra="forbid", frozen=True)
Amount = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]
_NOTHING = Decimal(0)


class Included(BaseModel):
    """What costs nothing in each month."""

    model_config = _STRICT
    requests: Amount = _NOTHING
    inferences: Amount = _NOTHING
    gb: Amount = _NOTHING
    compute_seconds: Amount = _NOTHING


class Plan(BaseModel):
    """What is paid for what. A month is one of the calendar, in UTC."""

    model_config = _STRICT
    per_month: Amount = _NOTHING
    per_1000_requests: Amount = _NOTHING
    per_1000_inferences: Amount = _NOTHING
    per_gb: Amount = _NOTHING
    per_compute_second: Amount = _NOTHING
    included: Included = Included()


class Prices(BaseModel):
    """The plans of all tenants."""

    model_config = _STRICT
    currency: str = Field(pattern=r"^\S{1,8}$")
    decimals: int = Field(default=2, ge=0, le=6)
    default: Plan = Plan()
    tenants: dict[str, Plan] = {}

    def plan(self, tenant: str) -> Plan:
        """A tenant's own plan, or the default."""
        return self.tenants.get(tenant, self.default)


@dataclass(frozen=True, kw_only=True)
class Position:
    """One line of a bill.

    Attributes:
        month: Such as `2026-03`.
        what: Such as `inferences`.
        quantity: So much was used.
        included: So much of it costs nothing.
        price: Of one unit; as the plan says it, with `per`.
        per: How many units the price is for.
        amount: In the plan's currency, rounded.
    """

    month: str
    what: str
    quantity: Decimal
    included: Decimal
    price: Decimal
    per: int
    amount: Decimal


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What a tenant owes.

    Attributes:
        tenant: Who.
        currency: In what.
        amount: The positions' sum.
        positions: What costs something.
    """

    tenant: str
    currency: str
    amount: Decimal
    positions: tuple[Position, ...]


def read(path: Path) -> Prices:
    """Read a file with prices.

    Raises:
        UsageError: It cannot be read, or says something that is no price; all of that together.
    """
    try:
        return Prices.model_validate(tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal))
    except ValidationError as exc:
        wrong = [f"{'.'.join(map(str, one['loc'])) or 'the file'}: {one['msg']}" for one in exc.errors()]
        raise UsageError(f"the prices in {path} cannot be", why="; ".join(wrong), fix="correct the file") from exc
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise UsageError(f"{path} cannot be read", why=str(exc), fix="give a TOML file with prices") from exc


def bill(prices: Prices, tenant: str, months: Sequence[tuple[str, Counts]]) -> Bill:
    """What a tenant owes for the months in which it may have used something.

    Args:
        prices: The prices.
        tenant: Who.
        months: Each month of the time, such as `2026-03`, with what was used in it.
    """
    plan = prices.plan(tenant)
    unit = Decimal(1).scaleb(-prices.decimals)
    positions = [
        position for month, used in months for position in _positions(plan, month, used, unit) if position.amount
    ]
    amount = sum((one.amount for one in positions), Decimal(0).quantize(unit))
    return Bill(tenant=tenant, currency=prices.currency, amount=amount, positions=tuple(positions))


def _positions(plan: Plan, month: str, used: Counts, unit: Decimal) -> list[Position]:
    free, traffic = plan.included, Decimal(used.received_bytes + used.sent_bytes) / GB
    lines = (
        ("month", Decimal(1), Decimal(0), plan.per_month, 1),
        ("requests", Decimal(used.answered), free.requests, plan.per_1000_requests, 1000),
        ("inferences", Decimal(used.inferences), free.inferences, plan.per_1000_inferences, 1000),
        ("gb", traffic, free.gb, plan.per_gb, 1),
        ("compute_seconds", Decimal(used.compute_ns) / GB, free.compute_seconds, plan.per_compute_second, 1),
    )
    return [
        Position(
            month=month,
            what=what,
            quantity=quantity,
            included=included,
            price=price,
            per=per,
            amount=(max(Decimal(0), quantity - included) * price / per).quantize(unit, ROUND_HALF_UP),
        )
        for what, quantity, included, price, per in lines
    ]
