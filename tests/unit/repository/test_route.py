"""A route knows which versions it names, where its calls go now, and what becomes of it when a version is lost."""

from __future__ import annotations

import pytest

from modelport.repository.route import Route, Share, content, parse


def routed(shadow="", sticky="", **shares):
    return Route(
        shares=tuple(Share(target=name.lstrip("_"), percent=part) for name, part in shares.items()),
        shadow=shadow,
        sticky=sticky,
    )


def test_it_keeps_loaded_what_it_names_by_number():
    assert routed(stable=90, _3=10, shadow="4").numbers == {3, 4}


def test_shares_of_aliases_that_mean_the_same_version_are_one():
    assert routed(stable=60, canary=30, _1=10).versions({"stable": 1, "canary": 1}, (1, 2)) == {1: 100.0}


def test_what_is_not_loaded_gets_nothing_and_the_others_share_it_out():
    found = routed(stable=60, canary=20, _3=20).versions({"stable": 1, "canary": 2}, (1, 2))
    assert found == {1: 75.0, 2: 25.0}
    assert routed(_3=100).versions({}, (1,)) == {}


@pytest.mark.parametrize(
    ("before", "gone", "target", "after"),
    [
        (routed(_1=90, _2=10), ["3"], 1, routed(_1=90, _2=10)),
        (routed(_1=90, _2=10), ["2"], 1, Route()),
        (routed(_1=90, _2=10, shadow="3"), ["2"], 1, routed(_1=100, shadow="3")),
        (routed(_1=50, _2=30, _3=20, sticky="tenant"), ["3"], 1, routed(_1=70, _2=30, sticky="tenant")),
        (routed(stable=90, _2=10), ["2"], 1, routed(stable=90, _1=10)),
        (routed(shadow="2"), ["2"], 1, Route()),
        (routed(_2=100), ["2"], None, Route()),
    ],
)
def test_calls_to_a_lost_version_go_to_the_one_that_serves(before, gone, target, after):
    assert before.led(gone, target) == after


def test_what_is_kept_is_read_again():
    route = routed(stable=99.9, _2=0.1, sticky="header:x-user", shadow="3")
    assert parse(content(route)) == route and parse({}) == Route()


@pytest.mark.parametrize(
    "kept",
    [
        {"shares": [["a", -1]]},
        {"shares": [["a", True]]},
        {"shares": ["a"]},
        {"sticky": "x"},
        [],
        {"shares": [["a", "1"]]},
    ],
)
def test_what_is_damaged_is_found(kept):
    with pytest.raises((ValueError, TypeError, AttributeError)):
        parse(kept)


def test_words_say_where_the_calls_go_now():
    route = routed(stable=90, canary=10, sticky="header:x-user", shadow="3")
    assert route.words() == "stable=90 canary=10, sticky by header x-user, shadow 3"
    assert route.meant({"stable": 1}, (1,)).endswith("(100 % to version 1)")
