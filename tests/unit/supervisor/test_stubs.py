"""Processes that die or are stopped are seen; one that is only ending is not taken for dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelport.server import shared_memory
from modelport.server.process_id import ProcessId
from modelport.server.stubs import MANY_DEAD
from modelport.supervisor.stubs import Stubs

PREFIX = f"modelport_test_{os.getpid()}_"


@dataclass(frozen=True)
class Handle:
    """A server: this process."""

    repository: Path
    server: ProcessId
    shm_prefix: str = PREFIX
    trial: Path | None = None

    @property
    def server_pid(self):
        return self.server.pid


@pytest.fixture
def child(tmp_path):
    """A process with the argument list of a stub of version 2 of model `m`."""
    program = tmp_path / "m" / "2" / "model.py"
    program.parent.mkdir(parents=True)
    program.write_text("import time; time.sleep(60)")
    words = [f"{tmp_path}/triton_python_backend_stub", program, f"{PREFIX}own", "1", "1", "1", "x", "1", "m_0_0", "x"]
    process = subprocess.Popen(words, executable=sys.executable)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def stubs(child, clock):
    return Stubs(clock, settled_s=0)


@pytest.fixture
def look(stubs, clock, tmp_path):
    def act():
        clock.now += 0.5
        stubs.look(Handle(tmp_path, ProcessId.of()))
        return [stub.state for stub in stubs.lost().get("m", [])]

    return act


def state_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def until(pid, states):
    deadline = time.monotonic() + 5
    while state_of(pid) not in states:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_living_one_is_not_lost(look, stubs):
    assert look() == look() == [] and stubs.alive("m", 2) == 1 and stubs.alive("m", 1) == 0


def test_a_dead_one_is_lost_at_the_second_look(look, child, stubs):
    look()
    child.kill()
    until(child.pid, "Z")
    assert [look(), look()] == [[], ["dead"]] and stubs.alive("m", 2) == 0
    stubs.write_off([child.pid])
    assert look() == []


def test_a_stopped_one_is_lost_after_a_second_and_found_again_when_it_goes_on(look, child):
    look()
    os.kill(child.pid, signal.SIGSTOP)
    until(child.pid, "T")
    assert [look(), look(), look()] == [[], [], ["stopped"]]
    os.kill(child.pid, signal.SIGCONT)
    until(child.pid, "RS")
    assert look() == []


def test_one_that_ended_as_it_should_is_forgotten(look, child):
    look()
    child.kill()
    child.wait()
    assert look() == look() == []


def test_the_memory_of_one_that_died_is_removed_also_when_its_version_was_taken_out_since(look):
    own, left = (shared_memory.FOLDER / f"{PREFIX}{word}" for word in ("own", "left"))
    try:
        own.touch()
        left.touch()
        time.sleep(0.02)
        look()
        assert own.exists() and not left.exists()
    finally:
        own.unlink(missing_ok=True)
        left.unlink(missing_ok=True)


def test_dead_ones_that_the_server_keeps_are_counted_and_told_once_when_they_are_many(stubs, look, child):
    """Nobody has asked for the exit codes of these twenty."""
    dead = [subprocess.Popen(["true"]) for _ in range(MANY_DEAD - 1)]
    try:
        for process in dead:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        look()
        assert stubs.dead == MANY_DEAD - 1 and stubs.complaint() == ""
        dead.append(subprocess.Popen(["true"]))
        os.waitid(os.P_PID, dead[-1].pid, os.WEXITED | os.WNOWAIT)
        for _ in range(11):
            look()
        assert f"keeps {MANY_DEAD} dead processes" in stubs.complaint() and stubs.complaint() == ""
    finally:
        for process in dead:
            process.wait()
