"""A change waits until the gateway has taken in the configuration, and never without one."""

from __future__ import annotations

import threading

import pytest

from modelport.repository import followed
from modelport.repository.followed import Follower
from modelport.repository.layout import state_folder


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "model_repository"
    (folder / "m").mkdir(parents=True)
    (folder / "m" / "config.pbtxt").write_text("one")
    state_folder(folder).mkdir()
    return folder


@pytest.fixture
def follower(repository):
    one = Follower(repository)
    yield one
    one.close()


def rewrite(repository, text: str) -> None:
    """As every command does: another file in its place."""
    new = repository.parent / "new"
    new.write_text(text)
    new.replace(repository / "m" / "config.pbtxt")


def test_nobody_who_follows_is_waited_for_by_nobody(repository, follower):
    assert followed.wait(repository, "m", timeout_s=0)
    follower.note(follower.look())
    follower.close()
    rewrite(repository, "two")
    assert followed.wait(repository, "m", timeout_s=0)


def test_what_is_there_now_has_to_be_followed_and_not_what_was_there(repository, follower):
    follower.note(follower.look())
    assert followed.wait(repository, "m", timeout_s=0)
    seen = follower.look()
    rewrite(repository, "two")
    follower.note(seen)
    assert not followed.wait(repository, "m", timeout_s=0.1)
    follower.note(follower.look())
    assert followed.wait(repository, "m", timeout_s=0)


def test_a_change_goes_on_as_soon_as_it_is_followed(repository, follower):
    follower.note({})
    late = threading.Timer(0.2, lambda: follower.note(follower.look()))
    late.start()
    assert followed.wait(repository, "m", timeout_s=30)
    late.join()


@pytest.mark.parametrize("content", ["", "[]", '{"m": 3}', "{"])
def test_a_note_that_cannot_be_read_is_no_note(repository, follower, content):
    follower.note(follower.look())
    (state_folder(repository) / followed.FILE).write_text(content)
    assert not followed.wait(repository, "m", timeout_s=0)
