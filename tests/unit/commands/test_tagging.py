"""Tags are notes on versions; an alias points at a version that answers, or is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from modelport.commands.tagging import alias, parse_aliases, tag
from modelport.errors import (
    InvalidNameError,
    ManifestError,
    ModelNotFoundError,
    UsageError,
    VersionNotFoundError,
)
from modelport.repository import events, switch


@pytest.fixture(autouse=True)
def three(shelve, stand):
    """Versions 1 to 3 of `net`; 1 and 2 are loaded."""
    for _ in range(3):
        shelve()
    stand([1, 2])


@pytest.fixture
def known(shelf):
    """`known()`: the record of `net`."""
    return lambda: switch.read(shelf, "net")[1]


@pytest.fixture
def kinds(shelf):
    """`kinds()`: what happened, without the publishing."""
    return lambda: [event.kind for event in events.latest(shelf, 99) if event.kind in ("tagged", "aliased")]


def test_tags_are_added_shown_and_taken_away(shelf, known, kinds):
    assert tag("net/2", ["b", "a", "a"], repository=shelf) == ("a", "b")
    assert tag("net/3", ["best"], repository=shelf) == ("best",)
    assert tag("net/2", repository=shelf) == ("a", "b")
    assert tag("net/2", ["a"], remove=True, repository=shelf) == ("b",)
    assert known().tags == {2: ("b",), 3: ("best",)}
    assert tag("net/2", ["b"], remove=True, repository=shelf) == ()
    assert known().tags == {3: ("best",)}
    assert kinds() == ["tagged"] * 4


def test_what_changes_nothing_writes_nothing(shelf, kinds):
    tag("net/2", ["a"], repository=shelf)
    alias("net", {"stable": 2}, repository=shelf)
    inode = (shelf / "net" / "config.pbtxt").stat().st_ino
    tag("net/2", ["a"], repository=shelf)
    alias("net", {"stable": 2}, repository=shelf)
    assert (shelf / "net" / "config.pbtxt").stat().st_ino == inode and kinds() == ["tagged", "aliased"]


@pytest.mark.parametrize(
    ("reference", "words", "remove", "error"),
    [
        ("net", ["a"], False, UsageError),
        ("net/9", ["a"], False, VersionNotFoundError),
        ("net/9", [], False, VersionNotFoundError),
        ("nope/1", ["a"], False, ModelNotFoundError),
        ("net/2", ["a b"], False, InvalidNameError),
        ("net/2", ["fine", "7"], False, InvalidNameError),
        ("net/2", ["a" * 33], False, InvalidNameError),
        ("net/2", ["gone"], True, UsageError),
    ],
)
def test_a_tag_that_cannot_be_is_one_clear_error_and_nothing_changes(shelf, known, reference, words, remove, error):
    with pytest.raises(error) as caught:
        tag(reference, words, remove=remove, repository=shelf)
    assert caught.value.why and caught.value.fix and known().tags == {}


def test_aliases_are_set_moved_shown_and_taken_away(shelf, known, kinds):
    assert alias("net", {"stable": 1, "canary": 2}, repository=shelf) == {"canary": 2, "stable": 1}
    assert alias("net", {"stable": 2}, remove=["canary"], repository=shelf) == {"stable": 2}
    assert alias("net", repository=shelf) == {"stable": 2} == known().aliases
    assert alias("net", remove=["stable"], repository=shelf) == {} == known().aliases
    assert kinds() == ["aliased"] * 3


@pytest.mark.parametrize(
    ("pointing", "remove", "error", "words"),
    [
        ({"canary": 3}, [], UsageError, "modelport promote net 3"),
        ({"stable": 1, "canary": 3}, [], UsageError, "not loaded"),
        ({"canary": 9}, [], VersionNotFoundError, ""),
        ({"1": 1}, [], InvalidNameError, ""),
        ({}, ["gone"], UsageError, "no alias gone"),
        ({"stable": 1}, ["gone"], UsageError, "no alias gone"),
    ],
)
def test_an_alias_that_cannot_be_is_one_clear_error_and_nothing_changes(shelf, known, pointing, remove, error, words):
    """Not even the aliases beside it."""
    with pytest.raises(error) as caught:
        alias("net", pointing, remove=remove, repository=shelf)
    assert words in str(caught.value) and caught.value.why and known().aliases == {}


def test_a_model_that_is_missing_leaves_nothing_behind(tmp_path, shelf):
    for act in (lambda at: tag("net/1", ["a"], repository=at), lambda at: alias("net", {"a": 1}, repository=at)):
        with pytest.raises(Exception, match="no model"):
            act(tmp_path / "nowhere")
        with pytest.raises(ModelNotFoundError):
            act(shelf.parent)
    assert not (tmp_path / "nowhere.state").exists()


def test_a_configuration_that_cannot_be_read_is_left_alone(shelf):
    path = shelf / "net" / "config.pbtxt"
    path.write_text("broken {")
    for act in (lambda: tag("net/1", ["a"], repository=shelf), lambda: alias("net", {"a": 1}, repository=shelf)):
        with pytest.raises(ManifestError):
            act()
    assert path.read_text() == "broken {"


def test_the_owners_settings_and_comments_stay(shelf):
    path = shelf / "net" / "config.pbtxt"
    owned = "# two copies\n" + path.read_text()
    path.write_text(owned)
    tag("net/1", ["a"], repository=shelf)
    alias("net", {"stable": 1}, repository=shelf)
    assert path.read_text().endswith(owned)
    tag("net/1", ["a"], remove=True, repository=shelf)
    alias("net", remove=["stable"], repository=shelf)
    assert path.read_text() == owned


def test_many_at_once_lose_nothing(shelf, known):
    """Each waits for the others, and begins with what they wrote."""
    words = [f"t{number}" for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        tagged = [pool.submit(tag, "net/2", [word], repository=shelf) for word in words]
        named = [pool.submit(alias, "net", {word: 1}, repository=shelf) for word in words]
        for future in (*tagged, *named):
            future.result()
    assert known().tags == {2: tuple(sorted(words))} and known().aliases == dict.fromkeys(words, 1)


def test_pairs_are_read():
    assert parse_aliases(["stable=2", "a.b-c_d=10"]) == {"stable": 2, "a.b-c_d": 10}
    assert parse_aliases([]) == {}


def test_every_wrong_pair_is_named():
    with pytest.raises(UsageError) as caught:
        parse_aliases(["stable", "fine=1", "=2", "a=b", "a=01", "a=1=2"])
    assert all(repr(word) in caught.value.what for word in ("stable", "=2", "a=b", "a=01", "a=1=2"))
    assert "fine" not in caught.value.what
