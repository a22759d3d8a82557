"""What the gate knows of models follows their files, and those that have not changed are not read again."""

from __future__ import annotations

import shutil

import pytest

from modelport.gateway import gate_models
from modelport.gateway.routes import change


@pytest.fixture(autouse=True)
def two(shelve, stand):
    """Versions 1 and 2 of `net`, both loaded."""
    for _ in range(2):
        shelve()
    stand([1, 2], aliases={"stable": 1, "canary": 2})


def test_a_changed_route_a_version_that_goes_and_a_model_that_goes_are_seen(shelf):
    models = gate_models.Models()
    found = models.read(shelf)["net"]
    assert (found["aliases"], found["route"], found["shadow"]) == ({"stable": "1", "canary": "2"}, None, None)
    assert found["capture"] is None and found["names"] in found["inputs"]
    change.change(shelf, "net", ["stable=90", "canary=10"], sticky="tenant")
    shares = [{"version": "1", "below": 90.0}, {"version": "2", "below": 100.0}]
    assert models.read(shelf)["net"]["route"] == {"by_tenant": True, "by_header": None, "shares": shares}
    (shelf / "net/1").rename(shelf.parent / "away")
    assert models.read(shelf)["net"]["route"]["shares"] == [{"version": "2", "below": 100.0}]
    (shelf / "net/config.pbtxt").write_text("no configuration {")
    assert models.read(shelf) == {}
    shutil.rmtree(shelf / "net")
    assert models.read(shelf) == {}


def test_a_model_that_has_not_changed_is_not_read_again(shelf):
    models = gate_models.Models()
    before = models.read(shelf)["net"]
    assert models.read(shelf)["net"]["inputs"] is before["inputs"]
    change.change(shelf, "net", ["1=100"])
    assert models.read(shelf)["net"]["inputs"] is not before["inputs"]
