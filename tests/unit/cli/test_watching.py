"""`modelport top`: what is asked wrongly, and what is left out where the terminal has no room."""

from __future__ import annotations

import pytest

from modelport.cli import main
from modelport.cli.watching import MODELS, TENANTS, _figure, _fit
from modelport.errors import ServerError, UsageError
from modelport.watching.values import Model, Seen, Tenant, Version, View, Work


def work(rate):
    return Work(
        requests_per_s=rate,
        errors_per_s=0.0,
        pending=0,
        mean_batch=None,
        mean_ms=None,
        queue_ms=None,
        compute_ms=None,
        copy_ms=None,
    )


def model(name, *rates):
    versions = tuple(Version(version=number, work=work(rate)) for number, rate in enumerate(rates, 1))
    return Model(model=name, serving=len(rates), ready=True, work=work(sum(rates)), seen=None, versions=versions)


def tenant(name, rate):
    return Tenant(
        tenant=name, seen=Seen(requests_per_s=rate, refused_per_s=0.0, failed_per_s=0.0, p50_ms=1.0, p99_ms=2.0)
    )


def shown(models, tenants, room):
    found = View(
        seconds=1.0,
        away={},
        quantiles_seconds=1.0,
        quantiles="gateway",
        ready=True,
        restarts=0,
        requests_per_s=0.0,
        errors_per_s=0.0,
        cpu=None,
        memory_bytes=None,
        memory_total_bytes=None,
        models=tuple(models),
        tenants=tuple(tenants),
        gpus=(),
    )
    return [(columns, [tuple(map(str, row)) for row in rows]) for columns, rows in _fit(found, room)]


def test_a_model_with_several_versions_has_a_line_for_each():
    (columns, rows), (_, tenants) = shown([model("net", 1.0, 3.0)], [tenant("acme", 2.0)], 100)
    assert (columns, len(rows)) == (MODELS, 3)
    assert [(row[0], row[1], row[2], row[-1]) for row in rows] == [
        ("net", "", "4.00", ""),
        ("", "1", "1.00", "25%"),
        ("", "2", "3.00", "75%, serves"),
    ]
    assert tenants == [("acme", "2.00", "0", "0", "1.00", "2.00")]


def test_where_there_is_no_room_the_busiest_are_shown():
    models = [model(f"m{number}", float(number)) for number in range(20)]
    tenants = [tenant(f"t{number}", float(number)) for number in range(20)]
    (_, rows), (columns, below) = shown(models, tenants, 24)
    assert [row[0] for row in rows][-3:] == ["m18", "m19", f"and {20 - len(rows) + 1} quieter ones"]
    assert columns == TENANTS and below[-1][0].startswith("and ") and below[-2][0] == "t19"
    assert len(rows) + len(below) + 2 * 4 <= 24


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0, "0"), (0.1234, "0.12"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346")],
)
def test_figures_are_short(value, text):
    assert _figure(value) == text


def test_what_is_no_service_is_an_error(tmp_path, capsys):
    assert main(["top", "--repository", str(tmp_path), "--once"]) == ServerError.exit_code
    assert main(["top", "--url", "ftp://example.org", "--once"]) == UsageError.exit_code
    assert "begins with http://" in capsys.readouterr().err
