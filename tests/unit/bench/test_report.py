"""The report stands alone: one page with its pictures in it, which loads nothing and runs nothing."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ElementTree

import pytest

from modelport.bench import compare, report


@pytest.fixture
def both(result):
    rates = {1: [100.0, 101.0, 99.0], 8: [300.0, 500.0, 310.0], 32: [320.0, 330.0, 310.0]}
    return result("net/1", rates), result("net/2 & <more> $x", {load: [r * 2 for r in x] for load, x in rates.items()})


def test_the_page_loads_and_runs_nothing(both):
    text = report.page(both, compare.compare(*both))
    assert "<script" not in text and "@import" not in text
    loaded = re.findall(r"""(?:src|href)\s*=\s*["']([^"'#][^"']*)""", text)
    assert loaded == []
    names = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # of the SVG language, never fetched
    assert (
        set(re.findall(r"""https?://[^"'\s<]+""", re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S))) <= names
    )


def test_it_shows_curves_parts_ratios_and_tables(both):
    text = report.page(both, compare.compare(*both))
    pictures = re.findall(r"<svg.*?</svg>", text, re.S)
    assert len(pictures) == 5
    for picture in pictures:
        assert ElementTree.fromstring(picture).tag.endswith("svg")
    for words in (
        "Latency against throughput",
        "Where the time goes",
        "A over B",
        "Unstable at 8",
        "better",
        "queue",
    ):
        assert words in text, words
    assert "abc" in text and "modelport bench" in text, "what made it"


def test_names_cannot_break_the_page(both):
    text = report.page(both, compare.compare(*both))
    assert "<more>" not in text and "&lt;more&gt;" in text


def test_before_and_after_a_change_are_two_curves(result):
    """Both have the same name."""
    a, b = result("net", {1: [100.0, 101.0]}), result("net", {1: [120.0, 121.0]}, series="other")
    b = dataclasses.replace(b, circumstances={**b.circumstances, "time": "2026-02-03T00:00:00+00:00"})
    text = report.page((a, b), compare.compare(a, b))
    for side, time in (("A", "2026-01-02T03:04:05"), ("B", "2026-02-03T00:00:00")):
        assert f"<h2>net of {time}" in text and f"{side} is net of {time}" in text
    assert text.count("Where the time goes") == 2


def test_one_result_and_few_requests_give_a_page_too(result):
    text = report.page([result("net", {4: [10.0]}, requests=3, kind="request_rate", mean_batch=None)])
    assert text.count("<svg") == 3 and "A over B" not in text


def test_the_same_results_give_the_same_page(both):
    assert report.page(both) == report.page(both)


def test_the_file_is_written_whole(both, tmp_path):
    path = tmp_path / "new" / "r.html"
    report.write(path, [dataclasses.replace(both[0])])
    assert path.read_text().startswith("<!DOCTYPE html>")
    assert [p.name for p in path.parent.iterdir()] == ["r.html"]
