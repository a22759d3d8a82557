"""A result file gives back what was written, and nothing else is taken for one."""

from __future__ import annotations

import dataclasses
import json

import pytest

from modelport.bench import perf_output, stored
from modelport.errors import UsageError


def test_a_result_comes_back_as_it_was(result, said, tmp_path):
    given = result("net/1 over http", {1: [100.0, 110.0], 8: [300.0, 310.0]})
    ensemble = perf_output.read(said["ensemble table"], said["ensemble words"])
    rows = (*given.rows, dataclasses.replace(given.rows[0], round=9, measured=ensemble))
    given = dataclasses.replace(given, rows=rows)
    stored.write(tmp_path / "new" / "a.json", given)
    found = stored.read(tmp_path / "new" / "a.json")
    assert found.circumstances.items() >= given.circumstances.items()
    assert dataclasses.replace(found, circumstances=given.circumstances) == given


def test_a_request_rate_comes_back_as_one(result, tmp_path):
    given = result("net", {12.5: [12.4]}, kind="request_rate")
    stored.write(tmp_path / "a.json", given)
    assert stored.read(tmp_path / "a.json").loads() == given.loads()


@pytest.mark.parametrize("content", ["", "[]", '{"rows": []}', '{"kind": "modelport bench", "schema": 99}'])
def test_anything_else_is_refused(content, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"x\.json"):
        stored.read(path)


def test_a_damaged_row_is_refused(result, tmp_path):
    path = tmp_path / "x.json"
    stored.write(path, result("net", {1: [100.0]}))
    content = json.loads(path.read_text())
    del content["rows"][0]["p50_us"]
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="p50_us"):
        stored.read(path)
    with pytest.raises(UsageError):
        stored.read(tmp_path / "missing.json")
