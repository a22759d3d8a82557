"""A canary behind the real gateway, with callers who name no version: brought in, or taken back, on what they got."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from modelport._process import wait_until
from modelport.cli import main
from modelport.client import Client
from modelport.commands import capture as captures
from modelport.commands import route as verbs
from modelport.errors import ModelportError, UsageError, VerificationError
from modelport.gateway.gateway import Gateway
from modelport.gateway.keys import issue
from modelport.gateway.routes import begin, change, rollout, state, stored
from modelport.gateway.routes.judge import Limits
from modelport.gateway.routes.live import Live
from modelport.gateway.settings import Settings
from modelport.repository import events, followed
from modelport.repository.route import Route
from modelport.server import connection
from modelport.supervisor import gateway as supervised

QUICK = Limits(
    steps=(20.0, 50.0), hold_s=0.5, min_requests=100, max_error_rise=0.05, max_latency_ratio=4.0, give_up_s=30
)
PATIENCE_S = 0.3  # of callers


@pytest.fixture(scope="module")
def front(shelf, server):
    """The gateway of `modelport serve --gateway`, which sees for itself what changes."""
    gateway = Gateway(shelf.root, Settings(port=0, workers=1, upstreams=supervised.of(server.handle)))
    running = supervised.Front(gateway, lambda _: None, lambda: supervised.of(server.handle))
    gateway.token = issue.create(shelf.root, "acme", ("*",), expires_s=3600, limits={}, now=int(time.time())).token
    running.start()
    yield gateway
    running.stop()


@contextmanager
def calling(gateway, model, *, timeout_s=10.0, callers=2):
    """Callers over HTTP and gRPC; a quarter of what they ask is below zero. Gives who answered, and what failed."""
    stop, answered, failed = threading.Event(), Counter(), []

    def ask(number):
        chance, url = np.random.default_rng(number), gateway.settings.url
        url = url.replace("http", "grpc", 1) if number % 2 else url
        with Client(url, token=gateway.token, timeout_s=timeout_s, retries=0) as client:
            while not stop.is_set():
                x = np.array([[chance.random() - 0.25, 0.0]], np.float32)
                try:
                    answered[float(client.infer(model, inputs={"x": x})["y"][0, 0])] += 1
                except ModelportError as error:
                    failed.append(f"{type(error).__name__} {error}")
                time.sleep(0.002)

    assert followed.wait(gateway.repository, model)
    threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield answered, failed
    finally:
        stop.set()
        for thread in threads:
            thread.join(15)


@pytest.fixture
def flawed(shelf, server):
    """`flawed(execute)`: a Python model whose version 1 serves, and whose version 2 is flawed, golden inputs aside."""
    made = []

    def act(execute, value=None):
        name = f"flawed{len(list(shelf.root.iterdir()))}"
        shelf.publish(name, python={}, value=value)
        server.load(name)
        made.append(name)
        shelf.publish(name, python={"execute": execute}, value=value)
        return name

    yield act
    for name in made:
        server.unload(name)


def auto(root, model, limits=QUICK):
    """As `modelport route MODEL --auto`; the error of one that was taken back."""
    with pytest.raises(VerificationError) as caught:
        verbs.auto(model, within=limits, repository=root)
    return caught.value


def test_a_candidate_is_loaded_shown_to_some_callers_and_promoted_and_the_route_is_gone(
    shelf, server, front, net, capsys
):
    """By the command, while callers notice nothing: before its first step nobody gets it."""
    shelf.publish(net)
    words = ["--steps", "20,50", "--hold", "0.5s", "--min-requests", "100"]
    words += ["--max-error-rise", "5%", "--max-latency-ratio", "4"]
    with calling(front, net) as (answered, failed):
        code = main(["route", net, "--auto", *words, "-r", str(shelf.root)])
        answered.clear()
        time.sleep(0.2)
    said = capsys.readouterr()
    assert code == 0 and f"{net}: promoted" in said.out, said.err
    assert failed == [] and {*answered} == {2}, "the last callers got it, all of them"
    assert stored.read_one(shelf.root, net) == Route() and server.ready_versions(net) == (1, 2)
    assert state.read(shelf.root, net) is None
    told = verbs.history(net, repository=shelf.root)
    assert [one["event"] for one in told] == ["begun", "step", "step", "promoted"]
    assert told[1]["findings"][0]["canary"] >= 100 and told[1]["findings"][0]["stable"] > 200
    assert told[1]["findings"][2]["canary"] == 16, "the golden inputs of both versions were asked of both"
    kinds = [event.kind for event in events.latest(shelf.root, 20) if event.model == net]
    assert kinds.index("rollout_begun") < kinds.index("rollout_promoted")
    assert main(["route", net, "--history", "-r", str(shelf.root)]) == 0
    shown = capsys.readouterr().out
    assert "step, version 2 against 1, 20 %: go_on" in shown and "errors: 0 of" in shown and "latency:" in shown


FLAWS = {
    "errors": "assert (x[:, 0] >= 0).all()",
    "latency": "time.sleep(0.03 if (x[:, 0] < 0).any() else 0)",
}


@pytest.mark.parametrize("criterion", ["errors", pytest.param("latency", marks=pytest.mark.soak)])
def test_a_canary_that_fails_or_delays_some_callers_is_taken_back_and_unloaded(shelf, server, front, flawed, criterion):
    """Its golden answers are right and fast, so that only callers can show it; no call to stable fails."""
    name = flawed(FLAWS[criterion])
    with calling(front, name) as (answered, failed):
        error = auto(shelf.root, name)
        before = len(failed)
        answered.clear()
        time.sleep(0.3)
    assert "taken back at 20 %" in error.what and criterion in error.why
    assert len(failed) == before and {*answered} == {1}, "none after it was taken back"
    assert [why for why in failed if not why.startswith("RemoteError")] == []
    assert bool(failed) == (criterion == "errors")
    assert stored.read_one(shelf.root, name) == Route() and server.ready_versions(name) == (1,)
    told = verbs.history(name, repository=shelf.root)
    assert [one["event"] for one in told] == ["begun", "step", "taken_back"]
    assert [one["criterion"] for one in told[1]["findings"] if one["verdict"] == "worse"] == [criterion]


@pytest.mark.soak
def test_a_canary_that_answers_some_captured_requests_otherwise_is_taken_back(shelf, server, front, flawed):
    """Its golden answers are right; what callers asked before was captured, and is asked of both."""
    name = flawed("x = np.where(x < 0, 7, x)", value=1.0)
    captures.capture(name, part=1.0, repository=shelf.root)
    with calling(front, name) as _:
        assert wait_until(lambda: captures.listed(shelf.root)[0][-1].kept.size_bytes > 50_000, timeout_s=10)
        error = auto(shelf.root, name, replace(QUICK, max_disagreement=0.05))
    assert "replayed requests are answered otherwise" in error.why and server.ready_versions(name) == (1,)


@pytest.mark.soak
def test_a_canary_that_hangs_is_taken_back_on_calls_that_were_given_up(shelf, server, front, flawed):
    """What never ends stands in no counter of the server; callers who go away before an answer came are seen."""
    name = flawed("time.sleep(0.5 if (x[:, 0] < 0).any() else 0)")
    with calling(front, name, timeout_s=PATIENCE_S) as (_, failed):
        error = auto(shelf.root, name, replace(QUICK, max_latency_ratio=1000.0))
    assert "errors" in error.why and failed and server.ready_versions(name) == (1,)


def test_a_route_that_somebody_changes_meanwhile_is_left_as_it_is(shelf, server, net):
    shelf.publish(net)

    one = begin.begin(shelf.root, net, "2", QUICK, lambda _: None)
    begin.load(shelf.root, one, lambda _: None)
    world = Live(repository=shelf.root, rollout=one, report=lambda _: None)
    done = rollout.run(world, one, lambda _: change.change(shelf.root, net, ["1=30", "2=70"]))
    assert done.result == rollout.LEFT and "the route is another one" in done.why
    assert stored.read_one(shelf.root, net).words() == "1=30 2=70"


def test_a_server_that_ends_and_one_that_is_away_are_told_from_each_other(shelf, server, net):
    shelf.publish(net)
    one = begin.begin(shelf.root, net, "2", QUICK, lambda _: None)
    begin.load(shelf.root, one, lambda _: None)
    world = Live(repository=shelf.root, rollout=one, report=lambda _: None, lost_s=0.2)
    assert (world.counts().broken, world.counts().changed) == ("", "")
    other = replace(server.handle, server=replace(server.handle.server, pid=1))
    assert "the server ended" in replace(world, server=other).counts().broken
    connection.remove(server.state_dir, server.handle)
    assert "the server was away" in world.counts().broken
    connection.write(server.state_dir, server.handle)
    assert "version 7 is not loaded" in replace(world, rollout=one.after(stable=7, stable_target="7")).counts().changed
    assert "version 7 does not answer" in replace(world, rollout=one.after(canary=7, canary_target="7")).counts().broken


def test_versions_that_cannot_stand_beside_each_other_are_told_before_anything_changes(shelf, server, front):
    shelf.publish("labelled", labels=["a", "b"])
    server.load("labelled")
    shelf.publish("labelled", labels=["b", "a"])
    with pytest.raises(UsageError, match="cannot be loaded beside version 1") as caught:
        verbs.auto("labelled", repository=shelf.root)
    assert "labels" in caught.value.why and stored.read_one(shelf.root, "labelled") == Route()
    server.unload("labelled")
