"""`modelport route`: what is printed, and what is refused before anything is done."""

from __future__ import annotations

import json

import pytest

from modelport.cli import main
from modelport.commands import route as verbs
from modelport.errors import UsageError
from modelport.gateway.routes import state


@pytest.fixture
def run(shelf, shelve, stand, capsys):
    """`run("net", "1=100")`: exit code, output, errors; versions 1 and 2 of `net` are loaded."""
    for _ in range(3):
        shelve()
    stand([1, 2], aliases={"stable": 1})

    def act(*words):
        code = main(["route", *words, "--repository", str(shelf)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return act


def test_a_route_is_set_shown_and_taken_away(run):
    assert run("net")[1] == "net has no route; unversioned calls: 100 % to version 2\n"
    code, out, _ = run("net", "stable=90", "2=10", "--sticky", "tenant")
    assert code == 0 and "stable=90 2=10, sticky by tenant" in out and "90 % to version 1, 10 % to version 2" in out
    assert "stable=90 2=10" in run()[1]
    (one,) = json.loads(run("--json")[1])
    assert (one["model"], one["versions"], one["shadow"]) == ("net", {"1": 90.0, "2": 10.0}, None)
    assert one["route"]["shares"][0] == {"target": "stable", "percent": 90.0}
    assert json.loads(run("net", "1=100", "--shadow", "2", "--json")[1])["shadow"] == 2
    assert "has no route" in run("net", "--clear")[1] and run("--json")[1] == "[]\n"


def test_the_history_is_shown_with_its_evidence(run, shelf):
    assert "no canary of this model" in run("net", "--history")[2]
    entry = {"at": "2026-01-02T03:04:05.678+00:00", "event": "step", "canary": 2, "stable": 1, "share": 5.0}
    state.tell(shelf, "net", {**entry, "decision": "go_on", "why": "errors: 0 of 9; latency: 1"})
    lines = run("net", "--history")[1].splitlines()
    assert lines[0] == "2026-01-02 03:04:05  step, version 2 against 1, 5 %: go_on"
    assert [line.strip() for line in lines[1:]] == ["errors: 0 of 9", "latency: 1"]
    assert json.loads(run("net", "--history", "--json")[1])[0]["share"] == 5.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--clear"], "a model is missing"),
        (["net", "1=100", "--clear", "--auto"], "--clear and --auto are different things"),
        (["net", "--history", "--sticky", "tenant"], "--sticky belong to shares"),
        (["net", "1=50", "2=50", "--auto"], "--auto takes one canary"),
        (["net", "1=50", "2=60"], "add up to 110"),
        (["net", "--auto", "--steps", "5,x", "--hold", "1y"], "--steps"),
        (["net", "--auto", "--steps", "50,5", "--min-requests", "0"], "--min-requests is 1 or more"),
    ],
)
def test_what_cannot_be_is_refused(run, words, said):
    code, _, err = run(*words)
    assert code == UsageError.exit_code and said in err and "  do:" in err


def test_without_a_gateway_no_canary_is_brought_in(run):
    code, _, err = run("net", "--auto")
    assert code == 40 and "no gateway runs" in err and "modelport serve --gateway" in err


def test_limits_are_read_as_they_are_typed():
    found = verbs.limits(steps="1%, 50", hold="2min", max_error_rise="0.5%", max_disagreement="0.2", give_up="1h")
    assert (found.steps, found.hold_s, found.max_error_rise) == ((1.0, 50.0), 120.0, 0.005)
    assert (found.max_disagreement, found.give_up_s) == (0.2, 3600.0)
