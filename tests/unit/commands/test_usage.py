"""`modelport usage`: what was logged, added up in each way, as a table, CSV and JSON; and the bills."""

from __future__ import annotations

import csv
import io
import json

import pytest

from modelport.cli import main
from modelport.commands.usage import usage
from modelport.errors import RepositoryError, UsageError
from modelport.gateway import private

LINE = {
    "flags": "-", "grpc_status": "", "inferences": "2", "kind": "infer", "model": "net", "passed": "1",
    "received_bytes": 10, "sent_bytes": 20, "status": 200, "tenant": "acme", "version": "1",
}  # fmt: skip


@pytest.fixture
def root(tmp_path):
    """March and April: `acme` asks two models, `other` one; and somebody without a key."""
    found = [
        ("2026-03-31T23:59:59.999Z", {}),
        ("2026-04-01T00:00:00.000Z", {}),
        ("2026-04-02T10:00:00.000Z", {"model": "big", "version": "3"}),
        ("2026-04-02T11:00:00.000Z", {"tenant": "other"}),
        ("2026-04-02T12:00:00.000Z", {"tenant": "other", "status": 503}),
        ("2026-04-03T12:00:00.000Z", {"tenant": "", "kind": "", "passed": "", "model": "", "status": 401}),
    ]
    root = tmp_path / "model_repository"
    root.mkdir()
    log = private.folder(root, "access.log")
    log.parent.mkdir(parents=True)
    lines = [json.dumps({**LINE, **other, "time": time, "id": str(at)}) for at, (time, other) in enumerate(found)]
    log.write_text("\n".join(lines) + "\n")
    return root


def answered(root, by, **options):
    return {row.name: row.answered for row in usage(by=by, repository=root, **options).rows}


def test_the_same_is_told_in_four_ways(root):
    days = {"since": "2026-03-01", "until": "2026-04-30"}
    assert answered(root, "tenant", **days) == {"-": 0, "acme": 3, "other": 1}
    assert answered(root, "model", **days) == {"-": 0, "big": 1, "net": 3}
    assert answered(root, "version", **days) == {"-": 0, "big/3": 1, "net/1": 3, "net": 0}
    assert answered(root, "day", **days) == {"2026-03-31": 1, "2026-04-01": 1, "2026-04-02": 2, "2026-04-03": 0}


def test_both_ends_are_included_and_days_are_utc(root):
    assert answered(root, "tenant", since="2026-03-31", until="2026-03-31") == {"acme": 1}
    assert answered(root, "tenant", since="2026-04-01", until="2026-04-02") == {"acme": 2, "other": 1}


def test_one_tenant_or_model_alone(root):
    days = {"since": "2026-03-01", "until": "2026-04-30"}
    assert answered(root, "model", tenant="acme", **days) == {"big": 1, "net": 2}
    assert answered(root, "tenant", model="big", **days) == {"acme": 1}


@pytest.fixture
def words(root, tmp_path):
    prices = tmp_path / "prices.toml"
    prices.write_text('currency = "EUR"\n[default]\nper_1000_inferences = 500\n[tenants.idle]\nper_month = 3\n')
    days = ["--since", "2026-03-01", "--until", "2026-04-30"]
    return ["usage", "--repository", str(root), "--prices", str(prices), *days]


def test_csv_has_a_row_for_each_tenant_with_an_amount_where_there_is_one(words, capsys):
    assert main([*words, "--csv"]) == 0
    rows = {row["tenant"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert {name: row["amount"] for name, row in rows.items()} == {
        "-": "",
        "acme": "3.00",
        "other": "1.00",
        "idle": "6.00",
    }
    assert (rows["acme"]["inferences"], rows["other"]["failed"], rows["-"]["refused"]) == ("6", "1", "1")
    assert rows["acme"]["currency"] == "EUR"


def test_json_has_amounts_as_text(words, capsys):
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    bills = {bill["tenant"]: bill for bill in found["bills"]}
    assert bills["acme"]["amount"] == "3.00" and bills["idle"]["amount"] == "6.00"
    assert [(one["month"], one["amount"]) for one in bills["acme"]["positions"]] == [
        ("2026-03", "1.00"),
        ("2026-04", "2.00"),
    ]
    assert found["rows"][1]["received_bytes"] == 30


def test_the_table_tells_what_each_tenant_owes(words, capsys):
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "acme: 3.00 EUR" in said and "idle: 6.00 EUR" in said and "2026-04" in said


@pytest.mark.parametrize(
    "options",
    [
        {"by": "colour"},
        {"since": "yesterday"},
        {"since": "2026-04-02", "until": "2026-04-01"},
        {"by": "model", "prices": "prices.toml"},
        {"model": "net", "prices": "prices.toml"},
        {"prices": "missing.toml"},
    ],
)
def test_what_cannot_be_asked_is_refused(root, options, tmp_path):
    if "prices" in options:
        options = {**options, "prices": tmp_path / options["prices"]}
    with pytest.raises(UsageError):
        usage(repository=root, **options)


def test_a_repository_that_is_not_there_is_said_and_not_made(tmp_path):
    with pytest.raises(RepositoryError):
        usage(repository=tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_lines_that_could_not_be_read_are_told(words, root, capsys):
    with private.folder(root, "access.log").open("a") as log:
        log.write("no JSON\n")
    assert main(words) == 0
    assert "could not be read so far: 1" in capsys.readouterr().err


def test_csv_has_its_columns_also_where_nothing_was_used(words, capsys):
    assert main([*words[:3], "--since", "2025-01-01", "--until", "2025-01-31", "--csv"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("tenant,answered,inferences,") and out.count("\n") == 1
