"""A route is set whole or not at all; all that is wrong with it is said at once."""

from __future__ import annotations

import pytest

from modelport.commands.tagging import alias
from modelport.errors import ModelNotFoundError, UsageError
from modelport.gateway.routes import change, stored
from modelport.repository import events
from modelport.repository.route import Route, Share


@pytest.fixture(autouse=True)
def three(shelve, stand):
    """Versions 1 to 3 of `net`; 1 and 2 are loaded, and have aliases."""
    for _ in range(3):
        shelve()
    stand([1, 2], aliases={"stable": 1, "canary": 2, "same": 1, "gone": 3})


def test_a_route_is_set_read_changed_and_taken_away(shelf):
    assert stored.read_one(shelf, "net") == Route()
    route = change.change(shelf, "net", ["stable=90", "canary=10%"], sticky="tenant")
    shares = (Share(target="stable", percent=90.0), Share(target="canary", percent=10.0))
    assert stored.read_one(shelf, "net") == Route(shares=shares, sticky="tenant") == route
    change.change(shelf, "net", sticky="header:X-User")
    change.change(shelf, "net", shadow="2", shares=["1=100"])
    assert stored.read_one(shelf, "net").words() == "1=100, sticky by header X-User, shadow 2"
    assert change.change(shelf, "net", sticky="none", shadow="none").words() == "1=100"
    assert change.put(shelf, "net", Route()) == Route() and stored.read_one(shelf, "net") == Route()
    assert [e.kind for e in events.latest(shelf, 9)].count(change.EVENT) == 5


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        (["1=90", "2=20"], {}, ["add up to 110, not to 100"]),
        (["1=99.9"], {}, ["add up to 99.9, not to 100"]),
        (["1=50", "1=50"], {}, ["'1' is named twice"]),
        (["stable=50", "same=50"], {}, ["stable and same are both version 1"]),
        (["3=100"], {}, ["3 is not loaded by its configuration"]),
        (["gone=100"], {}, ["gone (version 3) is not loaded"]),
        (["best=100"], {}, ["there is no alias 'best'"]),
        (["1=100"], {"shadow": "1"}, ["the shadow 1 answers calls already"]),
        (["1=100"], {"sticky": "cookie"}, ["nothing can be sticky by 'cookie'"]),
        (["1=100"], {"sticky": "header:Authorization"}, ["by the secret in header 'Authorization'"]),
        (["1=100"], {"sticky": "header:a b"}, ["nothing can be sticky by 'header:a b'"]),
        ([], {"shadow": "003"}, ["'003'"]),
        (
            ["best=nan", "=5", "2=0", "a;b=10", "gone=30"],
            {"shadow": "9", "sticky": "x"},
            [
                *("'best=nan' is no share", "no alias 'best'", "'=5' names no target", "'2=0' is no share", "'a;b'"),
                *("gone (version 3) is not loaded", "9 is not loaded", "sticky by 'x'"),
            ],
        ),
    ],
)
def test_all_that_is_wrong_is_said_at_once_and_nothing_is_changed(shelf, words, options, said):
    change.change(shelf, "net", ["1=100"])
    with pytest.raises(UsageError) as caught:
        change.change(shelf, "net", words, **options)
    assert [part for part in said if part not in caught.value.what] == []
    assert "loaded are version 1, 2" in caught.value.why and "stable=1" in caught.value.why and caught.value.fix
    assert stored.read_one(shelf, "net").words() == "1=100"


def test_a_model_that_is_not_there_has_no_route(shelf):
    with pytest.raises(ModelNotFoundError):
        change.change(shelf, "other", ["1=100"])


def test_an_alias_that_the_route_names_cannot_be_taken_away_and_can_be_moved(shelf):
    change.change(shelf, "net", ["stable=90", "canary=10"])
    with pytest.raises(UsageError, match="route names it"):
        try:
            alias("net", remove=["canary"], repository=shelf)
        except UsageError as exc:
            raise UsageError(exc.why) from exc
    assert alias("net", {"canary": 1}, repository=shelf)["canary"] == 1
    assert stored.read_one(shelf, "net").versions({"stable": 1, "canary": 1}, (1, 2)) == {1: 100.0}
