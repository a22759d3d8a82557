"""Tables and JSON: the same for few rows and for many, and nothing in them controls the terminal."""

from __future__ import annotations

import json
import re
import time

import numpy as np
import pytest

from modelport import _render

COLUMNS = ("model", "version", "metric")
ROWS = [("digits_cnn", 1, 0.123456), ("größe 模型", 12, 2.0), ("", 3, 1e-9)]


def words(text: str) -> list[list[str]]:
    """The cells of each line."""
    lines = [line.strip() for line in text.splitlines()]
    return [re.split(r"\s{2,}", line) for line in lines if line.strip("─ ")]


def test_a_long_table_says_what_a_short_one_does(capsys, monkeypatch):
    _render.table("", COLUMNS, ROWS)
    short = capsys.readouterr().out
    monkeypatch.setattr(_render, "LONG", 0)
    _render.table("", COLUMNS, ROWS)
    long = capsys.readouterr().out
    assert words(long) == words(short) != []
    assert [line.rstrip() for line in long.splitlines()] == [line.rstrip() for line in short.splitlines()]


def test_a_long_table_comes_at_once_and_whole(capsys):
    started = time.process_time()
    _render.table("all", COLUMNS, [(f"model_{i}", i, 0.5) for i in range(5000)])
    assert time.process_time() - started < 1.0, "rich would take several seconds"
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 5004 and out.startswith("all\n") and "model_4999" in out


@pytest.mark.parametrize("rows", [1, 300])
def test_nothing_in_a_cell_controls_the_terminal(capsys, rows):
    _render.table("", ("problem",), [("a\x1b[2Jb\rc\nd [bold]e\x07",)] * rows)
    out = capsys.readouterr().out
    assert "a?[2Jb c d [bold]e?" in out and not re.search(r"[\x1b\r\x07]", out)


def test_nothing_in_a_line_or_an_error_controls_the_terminal(capsys):
    """A card that was copied in, a server's reason: lines stay lines, and spaces of any script stay."""
    text = "# größe 模型\n\t[bold] a\xa0b\u3000c"
    _render.lines(text + "\x1b[2J\r\x07\x9b\u202e")
    _render.error(text + "\x1b]0;x\x07")
    out, err = capsys.readouterr()
    assert out.expandtabs() == text.expandtabs() + "?[2J????\n" and err.expandtabs() == text.expandtabs() + "?]0;x?\n"


def test_a_long_list_is_the_same_json(capsys):
    rows = [{"name": "größe", "values": (i, 0.5, None)} for i in range(300)]
    _render.as_json(rows)
    out = capsys.readouterr().out
    assert json.loads(out) == [{"name": "größe", "values": [i, 0.5, None]} for i in range(300)]
    assert len(out.splitlines()) == 302


def test_arrays_and_numbers_of_numpy_become_json(capsys):
    _render.as_json({"a": np.arange(2, dtype=np.float32), "n": np.int64(7), 3: (b"x", None)})
    assert json.loads(capsys.readouterr().out) == {"a": [0.0, 1.0], "n": 7, "3": ["x", None]}


def test_what_json_has_no_word_for_is_null(capsys):
    """Other readers than Python's refuse `NaN`."""
    _render.as_json({"a": np.array([np.nan, -np.inf, 1], dtype=np.float32), "b": float("inf")})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {"a": [None, None, 1.0], "b": None}
