"""A result file holds the raw values and what made them; a noisy measurement is called unstable."""

from __future__ import annotations

import json
import sys

import pytest

from modelport.bench import results
from modelport.server import toolchain


def test_spread_is_median_and_range():
    spread = results.spread([3.0, 1.0, 2.0])
    assert (spread.median, spread.low, spread.high) == (2.0, 1.0, 3.0)


def test_a_ratio_is_told_in_words_that_are_never_below_one():
    grown, shrunk = results.spread([2.0, 1.8, 2.2]), results.spread([0.8, 0.5, 1.25])
    assert (grown.words("faster", "slower"), grown.range_words()) == ("2.00 x faster", "(1.80 to 2.20)")
    assert (shrunk.words("faster", "slower"), shrunk.range_words()) == ("1.25 x slower", "(0.80 to 2.00)")


@pytest.mark.parametrize(("values", "unstable"), [([100, 101, 99], False), ([100, 60, 100], True)])
def test_far_apart_values_are_unstable(values, unstable):
    assert results.spread(values).unstable is unstable


def test_the_file_says_what_made_it_and_keeps_every_row(tmp_path, monkeypatch, root):
    monkeypatch.setattr(sys, "argv", [str(root / "benchmarks" / "x.py"), "--clients", "1"])
    monkeypatch.chdir(root)
    path = tmp_path / "new" / "x.json"
    results.write(path, circumstances=results.conditions(["numpy", "no-such-package"]), rows=[{"a": 1}, {"a": 2}])
    written = json.loads(path.read_text())
    assert written["rows"] == [{"a": 1}, {"a": 2}]
    assert written["versions"]["numpy"].startswith("1.26")
    assert written["versions"]["no-such-package"] == "not installed"
    assert written["machine"]["cores"] >= 1 and written["machine"]["cpu"] and len(written["time"]) >= 20
    assert written["command"] == ["python", "benchmarks/x.py", "--clients", "1"]
    assert written["compiled_backend"] is toolchain.NATIVE.is_file()
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def test_a_command_that_is_measured_keeps_its_compiled_modules(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("KEPT", "1")
    found = results.environment()
    assert found["KEPT"] == "1" and "PYTHONDONTWRITEBYTECODE" not in found
