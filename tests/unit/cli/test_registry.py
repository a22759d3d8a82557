"""The verbs of the registry on the command line: what they print, for people and as JSON, and how they refuse."""

from __future__ import annotations

import json

import pytest

from modelport.cli import main
from modelport.repository.route import Route, Share


@pytest.fixture(autouse=True)
def four(shelve, stand):
    """Versions 1 to 4 of `net`: 2 serves, 1 is loaded and the way back, 3 and 4 never served."""
    for version in range(1, 5):
        shelve(metrics={"accuracy": 0.9 + version / 100}, framework="keras 3" if version > 3 else "pytorch 2")
    stand([1, 2], way_back=(1,), aliases={"stable": 1}, tags={3: ("best",)})


@pytest.fixture
def run(capsys, shelf):
    """`run("list", "--json")`: exit code, output, errors of the command on that repository."""

    def act(*argv: str):
        code = main([*argv, "--repository", str(shelf)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return act


@pytest.fixture
def versions(run):
    """`versions("--state", "candidate")`: the versions that `list` finds."""
    return lambda *argv: [row["version"] for row in json.loads(run("list", *argv, "--json")[1])]


def test_the_list_says_how_every_version_stands(run):
    code, out, _ = run("list")
    assert code == 0
    lines = [line.split() for line in out.splitlines() if " net " in line]
    assert [line[1:4] for line in lines] == [
        ["1", "retired,", "loaded"],
        ["2", "serving", "onnx"],
        ["3", "candidate", "best"],
        ["4", "candidate", "onnx"],
    ]
    assert "stable" in out and "aliases" in out and "accuracy 0.94" in out


def test_the_list_as_json_has_every_field(run):
    rows = json.loads(run("list", "--json")[1])
    assert rows[0] == {
        "model": "net", "version": 1, "state": "retired", "loaded": True, "way_back": True, "aliases": ["stable"],
        "tags": [], "format": "onnx", "framework": "pytorch 2", "size_bytes": rows[0]["size_bytes"],
        "created": "2026-01-02T03:04:05+00:00", "metrics": {"accuracy": 0.91}, "route_percent": None, "problem": "",
    }  # fmt: skip


def test_a_search_finds_what_fits(versions):
    assert versions("NE") == versions("n*") == versions() == [1, 2, 3, 4]
    assert versions("--tag", "best") == [3]
    assert versions("--alias", "stable") == [1]
    assert versions("--framework", "keras") == [4]
    assert versions("--state", "candidate", "--metric", "accuracy>=0.935") == [4]
    assert versions("--state", "loaded") == [1, 2]
    assert versions("other") == []


def test_a_search_without_a_result_says_so(run):
    assert run("list", "other") == (0, "", "no version is like this\n")


def test_a_wrong_search_is_refused(run):
    code, out, err = run("list", "--metric", "accuracy", "--state", "old")
    assert (code, out) == (2, "") and "'accuracy'" in err and "'old'" in err


def test_a_version_is_shown_with_its_words_and_its_way_back(run):
    out = run("show", "net/1")[1]
    assert out.startswith("net version 1: retired, loaded\naliases: stable\nversions: 1, 2, 3, 4\n")
    assert "a rollback goes to: version 1" in out
    assert "tags: best" in run("show", "net/3")[1]
    assert json.loads(run("show", "net", "--json")[1])["way_back"] == 1


def test_differences_are_printed_with_their_sign(run):
    code, out, _ = run("diff", "net", "2", "4")
    words = [line.split() for line in out.splitlines()]
    assert code == 0 and ["metrics", "accuracy", "0.92", "0.94", "+0.02"] in words
    assert run("diff", "net", "2", "2")[1] == "nothing differs\n"
    changes = json.loads(run("diff", "net", "2", "4", "--json")[1])["changes"]
    assert {
        "part": "version",
        "what": "trained with",
        "before": "pytorch 2",
        "after": "keras 3",
        "difference": None,
    } in (changes)


def test_tags_are_added_shown_and_taken_away(run):
    assert run("tag", "net/3", "new")[1] == "tags of net/3: best, new\n"
    assert run("tag", "net/3", "new", "best", "--remove")[1] == "tags of net/3: none\n"
    assert json.loads(run("tag", "net/3", "a", "--json")[1]) == ["a"]
    assert json.loads(run("tag", "net/3", "--json")[1]) == ["a"]


def test_aliases_are_set_shown_and_taken_away(run):
    assert run("alias", "net", "canary=2", "--remove", "stable")[1] == "aliases of net: canary points at version 2\n"
    assert json.loads(run("alias", "net", "--json")[1]) == {"canary": 2}
    assert run("alias", "net", "--remove", "canary")[1] == "aliases of net: none\n"
    code, _, err = run("alias", "net", "next=3")
    assert code == 2 and "modelport promote net 3" in err


def test_the_policy_is_set_and_shown(run):
    assert "waits for 'modelport promote' (--on-drop candidate)" in run("policy", "net")[1]
    assert "is promoted at once" in run("policy", "net", "--on-drop", "promote")[1]
    assert "at most 20 ms" in run("policy", "net", "--latency-budget-ms", "20")[1]
    assert json.loads(run("policy", "net", "--json")[1]) == {"on_drop": "promote", "latency_budget_ms": 20.0}
    assert run("policy", "net", "--on-drop", "delete")[0] == 2


def test_pruning_says_what_goes_and_why_the_rest_stays(run, versions):
    out = run("prune", "net", "--keep", "1", "--dry-run")[1]
    assert "would be deleted" in out and "stays: serves" in out and versions() == [1, 2, 3, 4]
    done = json.loads(run("prune", "net", "--keep", "1", "--json")[1])
    assert list(done["deleted"]) == ["3"] and list(done["kept"]) == ["1", "2", "4"] and versions() == [1, 2, 4]
    assert "nothing to delete" in run("prune", "net", "--keep", "1")[1]
    assert run("prune", "net", "--keep", "-1")[0] == 2
    assert run("prune", "net")[0] == 2, "how many stay is never guessed"


def test_the_list_says_what_part_of_the_calls_a_route_gives_to_each_version(run, stand):
    route = Route(shares=(Share(target="stable", percent=90), Share(target="2", percent=10)))
    stand([1, 2], aliases={"stable": 1}, route=route)
    lines = run("list")[1].splitlines()
    assert [("90 %" in line, "10 %" in line) for line in lines if " net " in line] == [
        (True, False), (False, True), (False, False), (False, False),
    ]  # fmt: skip
    assert [row["route_percent"] for row in json.loads(run("list", "--json")[1])] == [90, 10, 0, 0]


@pytest.mark.parametrize(
    "argv", [["policy", "net/2"], ["prune", "net/2", "--keep", "1"], ["gate", "net/2"]], ids=" ".join
)
def test_a_version_where_a_model_is_asked_for_is_told_as_such(run, argv):
    code, _, err = run(*argv)
    assert code == 31 and "'net/2' names a version" in err and "write 'net' alone" in err


@pytest.mark.parametrize("verb", ["promote", "rollback"])
def test_which_version_is_to_serve_is_said_once(run, verb):
    code, out, err = run(verb, "net/3", "4")
    assert (code, out) == (2, "") and "net/3 4: which version?" in err and "write net/3, or net 4" in err


@pytest.mark.parametrize(
    "argv",
    [
        ["show", "nope"], ["diff", "nope", "1", "2"], ["tag", "nope/1", "a"], ["alias", "nope", "a=1"],
        ["policy", "nope"], ["prune", "nope", "--keep", "1"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_model_that_is_missing_is_one_clear_error(run, argv):
    code, out, err = run(*argv)
    assert (code, out) == (32, "") and "no model 'nope'" in err and "do:" in err


def test_thousands_of_rows_are_printed_whole(shelf, run):
    for number in range(300):
        (shelf / f"empty_{number:03}").mkdir()
    assert len([line for line in run("list")[1].splitlines() if "empty_" in line]) == 300
    assert len(json.loads(run("list", "empty", "--json")[1])) == 300
