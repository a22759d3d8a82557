"""Events of this process and of others: each is written once, shown once, and counted."""

from __future__ import annotations

import json
import logging

import pytest

from modelport.repository import events
from modelport.repository.layout import state_folder
from modelport.supervisor.announce import Announcer


@pytest.fixture
def shown():
    return []


@pytest.fixture
def announcer(tmp_path, shown):
    events.append(tmp_path / "r", events.event("old", "before the start"))
    announcer = Announcer(tmp_path / "r", shown.append, as_json=True)
    yield announcer
    announcer.close()


def kinds(shown):
    return [json.loads(line)["kind"] for line in shown]


def test_an_event_is_shown_at_once_and_written(announcer, shown, tmp_path):
    announcer(events.event("lost", "two\nlines", model="m", version=3, level="error", seconds=1.5))
    assert json.loads(shown[0])["text"] == "two lines"
    assert [e.kind for e in events.latest(tmp_path / "r", 9)] == ["old", "lost"]


def test_what_the_embedded_server_logs_is_an_event_while_it_is_announced(announcer, shown, tmp_path):
    """Standard error holds nothing but events, each a line of JSON where that was asked for."""
    log = logging.getLogger("modelport.server.embedded")
    with announcer.server_log():
        log.warning("cleared what a killed service left: %s", "ended processes 1, 2")
        log.warning("model m did not load", extra={"model": "m"})  # whoever watches over it has an event for this
    (line,) = map(json.loads, shown)
    assert (line["kind"], line["level"]) == ("server_warned", "warning") and "processes 1, 2" in line["text"]
    log.warning("later")
    assert len(shown) == 1


def test_events_of_others_are_shown_once_and_own_ones_not_again(announcer, shown, tmp_path):
    announcer(events.event("mine", "1"))
    events.append(tmp_path / "r", events.event("theirs", "2"))
    announcer(events.event("mine", "3"))
    announcer.follow()
    announcer.follow()
    assert kinds(shown) == ["mine", "mine", "theirs"]
    assert announcer.counts() == {"mine": 2, "theirs": 1}


def test_a_line_is_read_when_it_is_whole_and_what_is_no_event_is_left_out(announcer, shown, tmp_path):
    path = state_folder(tmp_path / "r") / events.EVENTS_FILE
    line = events.as_json(events.event("halves", "x"))
    with path.open("a") as file:
        file.write("no json\n[1]\n" + line[:10])
    announcer.follow()
    assert shown == []
    with path.open("a") as file:
        file.write(line[10:] + "\n")
    announcer.follow()
    assert kinds(shown) == ["halves"]


def test_a_log_that_began_anew_is_followed(announcer, shown, tmp_path):
    path = state_folder(tmp_path / "r") / events.EVENTS_FILE
    events.append(tmp_path / "r", events.event("last", "of the old one"))
    path.replace(path.with_name("events.jsonl.1"))
    events.append(tmp_path / "r", events.event("first", "of the new one"))
    announcer.follow()
    events.append(tmp_path / "r", events.event("second", "of the new one"))
    announcer.follow()
    assert kinds(shown) == ["last", "first", "second"]


def test_a_log_that_comes_later_is_followed(tmp_path, shown):
    announcer = Announcer(tmp_path / "none", shown.append, as_json=False)
    announcer.follow()
    events.append(tmp_path / "none", events.event("promoted", "serves", model="m", version=2))
    announcer.follow()
    announcer.close()
    assert shown[0].endswith("info promoted m/2 serves")


def test_nobody_who_reads_is_no_reason_to_stop(tmp_path):
    def closed(_):
        raise BrokenPipeError

    announcer = Announcer(tmp_path / "r", closed, as_json=True)
    announcer(events.event("kept", "all the same"))
    announcer.close()
    assert announcer.counts() == {"kept": 1}
