"""What is wanted and not there is loaded, with patience; what cannot be read is told once."""

from __future__ import annotations

import threading

import pytest

from modelport.errors import ServerError, ServerTimeoutError
from modelport.repository import lock
from modelport.supervisor.mend import Mender
from modelport.supervisor.wishes import Wish, Wishes

CONFIG = 'name: "m" backend: "x" max_batch_size: 0 version_policy { specific { versions: %s } }'


@pytest.fixture
def repository(tmp_path):
    """One model with version 1."""
    (tmp_path / "repository" / "m" / "1").mkdir(parents=True)
    (tmp_path / "repository" / "m" / "config.pbtxt").write_text(CONFIG % 1)
    return tmp_path / "repository"


@pytest.fixture
def mender(repository, link, jobs, happened, clock):
    return Mender(repository, link, jobs, happened.append, clock)


@pytest.fixture
def look(mender, clock):
    def act(wanted=(1,), loaded=(), *, mark=(1,), problem="", wait_s=0.5):
        clock.now += wait_s
        mender.consider("m", Wish(versions=wanted, mark=mark, problem=problem), loaded)

    return act


def test_what_is_as_wanted_is_left_alone(look, jobs):
    look(loaded=(1,))
    assert jobs.done == []


def test_a_missing_version_is_loaded(look, server, kinds, mender):
    look()
    assert server.calls == [("load", "m")] and kinds() == ["loaded"] and mender.problem("m") == ""


def test_a_load_that_fails_is_told_once_and_tried_again_later(look, server, kinds, mender):
    server.error = ServerError("model 'm' did not load", why="no file")
    for _ in range(120):  # a minute
        look()
    assert 3 <= len(server.calls) <= 5 and kinds() == ["load_failed"]
    assert "no file" in mender.problem("m")
    look(mark=(2,))
    assert len(server.calls) >= 4, "changed files are tried at once"
    look(loaded=(1,), mark=(2,))
    assert mender.problem("m") == ""


def test_what_did_not_load_at_the_start_is_not_tried_again_at_once(look, server, mender, kinds):
    mender.started({"m": "no file"})
    look()
    assert server.calls == [] and mender.problem("m") == "no file" and kinds() == ["load_failed"]
    look(wait_s=11)
    assert len(server.calls) == 1


def test_what_keeps_the_serving_version_from_being_loaded_is_taken_out(look, server, kinds):
    server.error, server.sheds = ServerError("model 'm' did not load", why="version 1: no file"), {1: "no file"}
    look((1, 2))
    assert server.calls == [("load", "m")] * 2 and kinds() == ["loaded"]


def test_a_load_that_hangs_is_ended_and_tried_again_later(look, server, kinds):
    server.error = ServerTimeoutError("model 'm' is still loading after 300 s")
    look()
    assert server.calls == [("load", "m"), ("end_loads", "m")] and kinds() == ["load_failed"]
    look()
    look(wait_s=11)
    assert server.calls.count(("load", "m")) == 2


def test_a_configuration_that_cannot_be_read_is_told_once(look, server, kinds, mender):
    for _ in range(3):
        look((), (1,), problem="config.pbtxt cannot be read")
    assert kinds() == ["config_unreadable"] and server.calls == []
    assert mender.problem("m") == "config.pbtxt cannot be read"


def test_another_commands_work_is_waited_for(look, server, kinds, mender, repository):
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with lock.model(repository, "m"):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(5)
    for _ in range(4):
        look()
    assert mender.changing("m") == "another command is changing it"
    leave.set()
    thread.join()
    assert server.calls == [] and kinds() == []
    look(wait_s=2)
    assert len(server.calls) == 1


def test_wishes_are_read_again_when_files_change(repository):
    wishes = Wishes(repository)
    first = wishes.read()["m"]
    assert first.versions == (1,) and wishes.read()["m"] is first
    (repository / "m" / "2").mkdir()
    (repository / "m" / "config.pbtxt").write_text(CONFIG % "[1, 2]")
    second = wishes.read()["m"]
    assert (second.versions, second.serving) == ((1, 2), 2) and second.mark != first.mark
    (repository / "m" / "config.pbtxt").write_text("broken {")
    assert "cannot be read" in wishes.read()["m"].problem
    (repository / "new").mkdir()
    assert wishes.read()["new"].versions == ()
    assert Wishes(repository, {"new"}).read().keys() == {"new"}
