"""A process is told from another one that has got its number."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from modelport.server.process_id import ProcessId


def test_this_process_lives_and_another_start_of_its_number_does_not():
    own = ProcessId.of()
    assert own.pid == os.getpid() and own.lives()
    assert not ProcessId(pid=own.pid, started=own.started + "0").lives()


def test_a_process_that_ended_does_not_live_even_before_its_parent_has_asked_for_it():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        found = ProcessId.of(process.pid)
        assert found.lives()
        process.stdin.close()
        deadline = time.monotonic() + 10
        while found.lives() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not found.lives()
        assert ProcessId.of(process.pid) == found, "its entry is still there"
    with pytest.raises(ProcessLookupError):
        ProcessId.of(found.pid)
