"""A canary in a running server, with callers who follow the route as a gateway does: brought in, or taken back."""

from __future__ import annotations

import random
import threading
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from modelport.client import Client
from modelport.commands import route as verbs
from modelport.errors import RemoteError, UsageError, VerificationError
from modelport.gateway.routes import begin, change, rollout, state, stored
from modelport.gateway.routes.judge import Limits
from modelport.gateway.routes.live import Live
from modelport.repository import events, record
from modelport.repository.layout import config_path
from modelport.repository.route import Route
from modelport.repository.versions import loaded_versions
from modelport.server import connection

QUICK = Limits(
    steps=(20.0, 50.0), hold_s=0.5, min_requests=100, max_error_rise=0.05, max_latency_ratio=4.0, give_up_s=30
)
FOLLOWS_S = 0.2


@contextmanager
def following(server, root, model):
    """Callers who ask for the version to which the route leads each of them; gives who was asked, and what failed."""
    stop, asked, failed = threading.Event(), [], []

    def ask(seed):
        chance = random.Random(seed)
        with Client(server.http_url, timeout_s=10, retries=0) as client:
            while not stop.is_set():
                known, loaded = record.read(config_path(root, model)), loaded_versions(root, model)
                shares = known.route.versions(known.aliases, loaded) or {max(loaded): 100.0}
                version = chance.choices([*shares], [*shares.values()])[0]
                x = np.array([[chance.random() - 0.3, 0.0]], np.float32)
                asked.append(version)
                try:
                    client.infer(model, version=version, inputs={"x": x})
                except RemoteError:
                    failed.append(version)

    threads = [threading.Thread(target=ask, args=(seed,), daemon=True) for seed in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield asked, failed
    finally:
        stop.set()
        for thread in threads:
            thread.join(15)


def auto(root, model, limits=QUICK, canary=None):
    one = begin.begin(root, model, canary, limits, lambda _: None)
    begin.load(root, one, lambda _: None, follows_s=FOLLOWS_S)
    return rollout.run(
        Live(repository=root, rollout=one, report=lambda _: None, follows_s=FOLLOWS_S), one, lambda _: None
    )


def test_a_candidate_is_loaded_shown_to_some_callers_and_promoted_and_the_route_is_gone(shelf, server, net):
    """Before its first step nobody gets it, though Triton would give it to every call that names no version."""
    shelf.publish(net)
    with following(server, shelf.root, net) as (asked, failed):
        done = auto(shelf.root, net)
    assert done.result == rollout.PROMOTED, done.why
    assert failed == [] and {*asked} == {1, 2}
    assert stored.read_one(shelf.root, net) == Route() and server.ready_versions(net) == (1, 2)
    assert state.read(shelf.root, net) is None
    told = verbs.history(net, repository=shelf.root)
    assert [one["event"] for one in told] == ["begun", "step", "step", "promoted"]
    assert told[1]["findings"][2]["canary"] == 16, "the golden inputs of both versions were asked of both"
    kinds = [event.kind for event in events.latest(shelf.root, 20) if event.model == net]
    assert kinds.index("rollout_begun") < kinds.index("rollout_promoted")


def test_a_canary_that_fails_some_callers_is_taken_back_and_unloaded(shelf, server):
    """Its golden answers are right, so that only callers can show it."""
    fails = {"execute": "assert (x[:, 0] >= 0).all()"}
    shelf.publish("flawed", python={})
    server.load("flawed")
    shelf.publish("flawed", python=fails)
    with following(server, shelf.root, "flawed") as (_, failed):
        done = auto(shelf.root, "flawed")
        before = len(failed)
    assert done.result == rollout.TAKEN_BACK and done.share == 20.0 and "errors" in done.why
    assert {*failed} == {2} and len(failed) == before
    assert stored.read_one(shelf.root, "flawed") == Route() and server.ready_versions("flawed") == (1,)
    error = verbs.problem("flawed", 2, done)
    assert isinstance(error, VerificationError) and "taken back at 20 %" in error.what and error.why == done.why
    server.unload("flawed")


def test_a_route_that_somebody_changes_meanwhile_is_left_as_it_is(shelf, server, net):
    shelf.publish(net)

    one = begin.begin(shelf.root, net, "2", QUICK, lambda _: None)
    begin.load(shelf.root, one, lambda _: None, follows_s=0.0)
    world = Live(repository=shelf.root, rollout=one, report=lambda _: None, follows_s=0.0)
    done = rollout.run(world, one, lambda _: change.change(shelf.root, net, ["1=30", "2=70"]))
    assert done.result == rollout.LEFT and "the route is another one" in done.why
    assert stored.read_one(shelf.root, net).words() == "1=30 2=70"


def test_a_server_that_ends_and_one_that_is_away_are_told_from_each_other(shelf, server, net):
    shelf.publish(net)
    one = begin.begin(shelf.root, net, "2", QUICK, lambda _: None)
    begin.load(shelf.root, one, lambda _: None, follows_s=0.0)
    world = Live(repository=shelf.root, rollout=one, report=lambda _: None, follows_s=0.0, lost_s=0.2)
    assert (world.counts().broken, world.counts().changed) == ("", "")
    other = replace(server.handle, server=replace(server.handle.server, pid=1))
    assert "the server ended" in replace(world, server=other).counts().broken
    connection.remove(server.state_dir, server.handle)
    assert "the server was away" in world.counts().broken
    connection.write(server.state_dir, server.handle)
    assert "version 7 is not loaded" in replace(world, rollout=one.after(stable=7, stable_target="7")).counts().changed
    assert "version 7 does not answer" in replace(world, rollout=one.after(canary=7, canary_target="7")).counts().broken


def test_versions_that_cannot_stand_beside_each_other_are_told_before_anything_changes(shelf, server):
    shelf.publish("labelled", labels=["a", "b"])
    server.load("labelled")
    shelf.publish("labelled", labels=["b", "a"])
    with pytest.raises(UsageError, match="cannot be loaded beside version 1") as caught:
        auto(shelf.root, "labelled")
    assert "labels" in caught.value.why and stored.read_one(shelf.root, "labelled") == Route()
    server.unload("labelled")
