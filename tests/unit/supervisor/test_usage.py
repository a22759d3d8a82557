"""The thread that counts: behind everybody else, and not ended by what fails."""

from __future__ import annotations

import datetime
import os
import threading

import pytest

from modelport._process import wait_until
from modelport.gateway import private
from modelport.supervisor import usage
from modelport.usage import store as stores
from modelport.usage.counter import Counter
from modelport.usage.store import Store

HOUR = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H")
LINE = (
    '{"flags":"-","grpc_status":"","id":"1","inferences":"1","kind":"infer","model":"net","passed":"1",'
    f'"received_bytes":1,"sent_bytes":1,"status":200,"tenant":"acme","time":"{HOUR}:06:07.890Z","us":"1500",'
    '"version":"1"}\n'
)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "model_repository"
    root.mkdir()
    log = private.folder(root, "access.log")
    log.parent.mkdir(parents=True)
    log.write_text(LINE)
    return root


@pytest.fixture
def counting(root, monkeypatch):
    monkeypatch.setattr(usage, "EVERY_S", 0.02)
    told = []
    found = usage.Counting(root, told.append)
    found.said = told
    yield found
    found.stop()


def answered(root):
    with Store(root) as store:
        return sum(sums.answered for _, sums in store.sums(("tenant",), "2000-01-01", "2999-12-31"))


def test_it_counts_in_a_thread_that_is_nicer_than_the_others(root, counting):
    counting.start()
    assert wait_until(lambda: answered(root) == 1, timeout_s=5)
    (thread,) = [one for one in threading.enumerate() if one.name == "modelport-usage"]
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, thread.native_id) == min(19, own + usage.NICE)


def test_what_is_left_is_counted_at_its_end(root, counting):
    counting.stop()
    assert answered(root) == 1


def test_what_fails_is_told_once_and_made_up_for_and_no_log_is_put_aside_meanwhile(root, counting):
    path = stores.path(root)
    path.parent.mkdir()
    path.write_text("no database, and longer than its header has to be, so that it is looked at" * 3)
    counting.start()
    assert wait_until(lambda: counting.said, timeout_s=5)
    assert not counting.may_put_aside()
    assert not wait_until(lambda: len(counting.said) > 1, timeout_s=0.2)
    assert [event.kind for event in counting.said] == ["usage_failed"] and counting.failing
    path.unlink()
    assert wait_until(lambda: counting.may_put_aside() and not counting.failing, timeout_s=5)
    assert answered(root) == 1


def test_who_asks_is_told_what_was_logged_until_then(root, counting):
    counting.start()
    for count in (1, 2, 3):
        ((said, answers),) = counting.told().answers.items()
        assert said == ("acme", "net", "200", "") and answers.requests == answers.inferences == count
        with private.folder(root, "access.log").open("a") as log:
            log.write(LINE)


def test_what_somebody_else_counted_is_told_as_well(root, counting):
    """`modelport usage` counts what is new before it answers; the figures for Prometheus lose nothing by that."""
    with Store(root) as store:
        Counter(root, store).take_in()
    counting.start()
    assert [one.requests for one in counting.told().answers.values()] == [1]


def test_where_it_cannot_be_counted_what_was_known_before_is_told(root, counting, monkeypatch):
    monkeypatch.setattr(usage, "TOLD_S", 0.05)
    assert counting.told().answers == {}, "it was not started"
