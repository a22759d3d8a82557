"""What is lost is loaded anew, slower each time, and in the end not at all; never while another command holds it."""

from __future__ import annotations

import itertools
import os
import threading

import pytest

from modelport.errors import ServerError
from modelport.repository import lock
from modelport.server import shared_memory
from modelport.supervisor.answers import BUSY, OK, WRONG
from modelport.supervisor.restore import LIMIT, Restorer
from modelport.supervisor.stubs import DEAD, Stub

REGION = f"modelport_test{os.getpid()}_region"


class Answers:
    """In the place of `Prober`."""

    def __init__(self):
        self.kind, self.forgotten = OK, []

    def prove(self, version, *, timeout_s):
        return self.kind, "far off"

    def forget(self, model):
        self.forgotten.append(model)


@pytest.fixture
def answers():
    return Answers()


@pytest.fixture
def restorer(tmp_path, link, jobs, answers, happened, clock):
    return Restorer(tmp_path / "repository", link, jobs, answers, happened.append, clock)


@pytest.fixture
def look(restorer, clock):
    """`look("dead")`: one look, half a second after the last, with this fault."""

    def act(fault="", *, mark=(1,), well=False, wait_s=0.5):
        clock.now += wait_s
        lost = [Stub(pid=41, started="7", model="m", version=2, region=REGION, state=DEAD)]
        restorer.consider(
            "m",
            lost=lost if fault == "dead" else [],
            hanging={3: "it hangs"} if fault == "hangs" else {},
            well=well,
            mark=mark,
            looked_at=clock.now,
        )

    return act


def test_a_dead_process_is_replaced_and_what_it_left_is_removed(look, server, restorer, kinds, answers):
    left = shared_memory.FOLDER / REGION
    left.touch()
    look()
    assert kinds() == []
    look("dead")
    assert server.calls == [("restore", "m", 2)] and kinds() == ["stub_lost", "stub_restored"]
    assert restorer.replaced() == {41} and restorer.replaced() == set()
    assert restorer.fault("m") == "" and answers.forgotten == ["m"]
    assert not left.exists()


def test_a_version_that_hangs_is_loaded_anew_alone(look, server):
    look("hangs")
    assert server.calls == [("restore", "m", 3)]


def test_what_was_seen_before_it_ended_is_not_acted_on(restorer, look, server, clock):
    look("dead")
    clock.now -= 0.1
    look("dead", wait_s=0)
    assert len(server.calls) == 1


def test_one_that_is_lost_again_and_again_is_restored_more_slowly(look, server, clock):
    """Such as a model that a certain request kills: it comes back, and the machine has time for others."""
    moments = []
    for _ in range(200):
        before = len(server.calls)
        look("dead")
        if len(server.calls) > before:
            moments.append(clock.now)
    waits = [b - a for a, b in itertools.pairwise(moments)]
    assert waits[0] <= 1 and 8 <= waits[-1] <= 9 and waits == sorted(waits)
    look("", wait_s=1000, well=True)
    before = len(server.calls)
    look("dead")
    look("dead")
    assert len(server.calls) == before + 2, "after a quiet time the first two come at once again"


def test_one_that_cannot_be_restored_is_left_alone(look, server, restorer, kinds):
    server.error = ServerError("model 'm' did not load", why="no file")
    for _ in range(200):
        look("dead")
    assert len(server.calls) == LIMIT and kinds().count("restore_failed") == LIMIT
    assert kinds().count("restore_given_up") == 1 and kinds().count("stub_lost") == 1
    assert "could not be restored 5 times" in restorer.fault("m")
    look()
    assert restorer.fault("m"), "nothing lost is seen, and nothing answers either"


def test_it_is_tried_again_when_its_files_changed_and_forgiven_when_it_is_well(look, server, restorer):
    server.error = ServerError("model 'm' did not load")
    for _ in range(100):
        look("dead")
    server.error = None
    look("dead", mark=(2,))
    assert len(server.calls) == LIMIT + 1 and restorer.fault("m") == ""
    server.error = ServerError("again")
    look("dead", wait_s=100)
    look("", well=True)
    assert restorer.fault("m") == ""


def test_an_answer_that_is_wrong_afterwards_is_a_failure(look, answers, kinds):
    answers.kind = WRONG
    look("dead")
    assert kinds() == ["stub_lost", "restore_failed"]


def test_a_damaged_version_beside_it_is_taken_out(look, server, kinds):
    server.error, server.sheds = ServerError("model 'm' did not load", why="version 1 is bad"), {1: "bad"}
    look("dead")
    assert server.calls == [("restore", "m", 2)] * 2 and kinds() == ["stub_lost", "stub_restored"]


def test_one_that_refuses_for_overload_afterwards_lives(look, answers, kinds):
    answers.kind = BUSY
    look("dead")
    assert kinds() == ["stub_lost", "stub_restored"]


def test_while_another_command_holds_the_model_it_waits_and_counts_nothing(look, server, restorer, kinds, tmp_path):
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with lock.model(tmp_path / "repository", "m"):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(5)
    for _ in range(20):
        look("dead")
    leave.set()
    thread.join()
    assert server.calls == [] and kinds() == ["stub_lost"] and restorer.fault("m")
    look("dead", wait_s=1)
    assert len(server.calls) == 1


def test_failures_of_a_server_that_died_meanwhile_are_not_the_models(look, server, kinds):
    server.error, server.lives = ServerError("connection refused"), False
    for _ in range(50):
        look("dead")
    assert "restore_failed" not in kinds()
