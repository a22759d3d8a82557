"""The thread that counts usage: behind everybody else, and not ended by what fails."""

from __future__ import annotations

import os
import threading

import pytest

from modelport._process import wait_until
from modelport.gateway import private
from modelport.supervisor import usage
from modelport.usage import store as stores
from modelport.usage.store import Store

LINE = (
    '{"flags":"-","grpc_status":null,"id":"1","inferences":1,"kind":"infer","model":"net","passed":"1",'
    '"received_bytes":1,"sent_bytes":1,"status":200,"tenant":"acme","time":"2026-03-04T05:06:07.890Z","version":"1"}\n'
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
    found.told = told
    yield found
    found.stop()


def answered(root):
    with Store(root) as store:
        return sum(sums.answered for _, sums in store.sums(("tenant",), "2026-01-01", "2026-12-31"))


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
    assert wait_until(lambda: counting.told, timeout_s=5)
    assert not counting.may_put_aside()
    assert not wait_until(lambda: len(counting.told) > 1, timeout_s=0.2)
    assert [event.kind for event in counting.told] == ["usage_failed"] and counting.failing
    path.unlink()
    assert wait_until(lambda: counting.may_put_aside() and not counting.failing, timeout_s=5)
    assert answered(root) == 1
