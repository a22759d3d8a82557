"""One writer at a time, across processes; a holder that dies holds nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from modelport.errors import RepositoryLockedError
from modelport.repository.layout import state_folder
from modelport.repository.lock import LOCK_FILE, writer

HOLDER = """
import sys, time
from pathlib import Path
from modelport.repository.lock import writer
with writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(repository):
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(repository)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_lock_lies_in_the_state_folder(repository):
    with writer(repository) as state:
        assert state == state_folder(repository) and (state / LOCK_FILE).is_file()
    assert not repository.exists(), "nothing is made in the repository"


def test_a_writer_that_waits_too_long_is_told_who_holds_the_lock(repository, holder):
    started = time.monotonic()
    with pytest.raises(RepositoryLockedError) as caught, writer(repository, timeout_s=0.3):
        pass
    assert 0.3 <= time.monotonic() - started < 5
    assert caught.value.holder == str(holder.pid) and str(holder.pid) in caught.value.what
    assert caught.value.exit_code == 34 and caught.value.why and caught.value.fix


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_a_dead_holder_is_free(repository, holder, number):
    """Although its file, with its number in it, is still there."""
    holder.send_signal(number)
    holder.wait(20)
    assert (state_folder(repository) / LOCK_FILE).read_text() == f"{holder.pid}\n"
    with writer(repository, timeout_s=0):
        pass


def test_a_waiting_writer_goes_on_as_soon_as_the_lock_is_free(repository, holder):
    threading.Timer(0.3, holder.kill).start()
    with writer(repository, timeout_s=20):
        holder.wait(20)


def test_the_lock_is_free_after_an_error(repository):
    with pytest.raises(ZeroDivisionError), writer(repository):
        raise ZeroDivisionError
    with writer(repository, timeout_s=0):
        pass


def test_threads_of_one_process_take_turns_too(repository):
    inside: list[int] = []

    def act() -> None:
        with writer(repository, timeout_s=20):
            inside.append(1)
            assert len(inside) == 1
            time.sleep(0.01)
            inside.pop()

    threads = [threading.Thread(target=act) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == []


def test_the_folder_of_the_lock_is_made(tmp_path):
    with writer(tmp_path / "deep" / "down" / "models"):
        assert Path(tmp_path / "deep" / "down" / "models.state").is_dir()
