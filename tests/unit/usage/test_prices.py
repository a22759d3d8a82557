"""Prices and bills: exact to the last cent, and refused as a whole where something in the file is no price."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from modelport.errors import UsageError
from modelport.usage import prices
from modelport.usage.lines import Counts


@pytest.fixture
def plans(tmp_path):
    def write(text):
        path = tmp_path / "prices.toml"
        path.write_text('currency = "EUR"\n' + text)
        return prices.read(path)

    return write


def positions(bill):
    return {f"{one.month} {one.what}": str(one.amount) for one in bill.positions}


def test_each_kind_of_price_and_what_is_included(plans):
    plan = plans("""
        [default]
        per_month = 20
        per_1000_requests = 0.10
        per_1000_inferences = "0.40"
        per_gb = 0.09
        per_compute_second = 0.002
        included = { requests = 1000, inferences = 10000, gb = 0.5, compute_seconds = 100 }
    """)
    used = Counts(answered=21_000, inferences=35_000, received_bytes=10**9, sent_bytes=2 * 10**9, compute_ns=10**12)
    bill = prices.bill(plan, "acme", [("2026-03", used)])
    assert positions(bill) == {
        "2026-03 month": "20.00",
        "2026-03 requests": "2.00",
        "2026-03 inferences": "10.00",
        "2026-03 gb": "0.23",  # 0.225, half a cent goes up
        "2026-03 compute_seconds": "1.80",
    }
    assert (bill.currency, bill.amount) == ("EUR", Decimal("34.03"))


def test_what_is_included_holds_for_each_month_of_its_own(plans):
    """What one month leaves of it is not another's."""
    plan = plans("[default]\nper_1000_inferences = 1\nincluded = { inferences = 1000 }")
    months = [("2026-03", Counts(inferences=500)), ("2026-04", Counts(inferences=2500)), ("2026-05", Counts())]
    bill = prices.bill(plan, "acme", months)
    assert positions(bill) == {"2026-04 inferences": "1.50"}


def test_a_tenants_own_plan_takes_the_place_of_the_default(plans):
    plan = plans("[default]\nper_month = 5\nper_gb = 1\n[tenants.acme]\nper_month = 7")
    used = [("2026-03", Counts(sent_bytes=10**9))]
    assert prices.bill(plan, "acme", used).amount == 7
    assert prices.bill(plan, "other", used).amount == 6


def test_a_bill_is_the_sum_of_its_rounded_positions(plans):
    plan = plans("decimals = 0\n[default]\nper_gb = 1\nper_compute_second = 1")
    bill = prices.bill(plan, "acme", [("2026-03", Counts(sent_bytes=4 * 10**8, compute_ns=4 * 10**8))])
    assert bill.amount == 0


def test_figures_that_are_no_binary_fractions_are_exact(plans):
    """0.1 three million times is 300,000, whatever a float thinks of it."""
    plan = plans("decimals = 6\n[default]\nper_1000_inferences = 0.1")
    assert str(prices.bill(plan, "acme", [("2026-03", Counts(inferences=3))]).amount) == "0.000300"
    assert str(prices.bill(plan, "acme", [("2026-03", Counts(inferences=3 * 10**18))]).amount) == f"{3 * 10**14}.000000"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[default]\nper_gb = -1", "default.per_gb"),
        ("[default]\nper_gb = nan", "default.per_gb"),
        ('[tenants.acme]\nper_gb = "much"', "tenants.acme.per_gb"),
        ("[default]\nper_gbyte = 1", "default.per_gbyte"),
        ("[default.included]\ngb = -0.5", "default.included.gb"),
        ("decimals = 9", "decimals"),
        ("default = 5", "default"),
        ("[default", "cannot be read"),
    ],
)
def test_what_is_no_price_is_named(plans, text, complaint):
    with pytest.raises(UsageError) as caught:
        plans(text)
    assert complaint in str(caught.value)


def test_all_that_is_wrong_is_told_together(plans):
    with pytest.raises(UsageError) as caught:
        plans("[default]\nper_gb = -1\nper_month = -2")
    assert "per_gb" in str(caught.value) and "per_month" in str(caught.value)


def test_a_currency_is_needed(tmp_path):
    (tmp_path / "prices.toml").write_text("[default]\nper_gb = 1\n")
    with pytest.raises(UsageError) as caught:
        prices.read(tmp_path / "prices.toml")
    assert "currency" in str(caught.value)


def test_the_page_on_usage_shows_prices_that_can_be(root, tmp_path):
    (text,) = re.findall(r"```toml\n(.*?)```", (root / "docs" / "usage.md").read_text(), re.DOTALL)
    (tmp_path / "prices.toml").write_text(text)
    found = prices.read(tmp_path / "prices.toml")
    assert found.plan("acme").included.inferences == 100_000
