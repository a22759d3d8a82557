"""One writer at a time, across processes; a holder that dies holds nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from modelport.errors import InvalidNameError, RepositoryLockedError
from modelport.repository.layout import state_folder
from modelport.repository.lock import LOCK_FILE, LOCKS, model, writer

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
    assert caught.value.holder == f"{holder.pid} (-c)" and caught.value.holder in caught.value.what
    assert caught.value.exit_code == 34 and caught.value.why and caught.value.fix


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_a_dead_holder_is_free(repository, holder, number):
    """Although its file, with its number in it, is still there."""
    holder.send_signal(number)
    holder.wait(20)
    assert (state_folder(repository) / LOCK_FILE).read_text() == f"{holder.pid} (-c)\n"
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


@pytest.mark.parametrize(
    ("name", "shown"),
    [("modelport", "modelport promote"), ("__main__.py", "modelport promote"), ("tool.py", "tool.py")],
)
def test_a_holder_is_named_with_its_program_and_its_verb_and_with_nothing_private(repository, tmp_path, name, shown):
    """The other arguments may be secrets, and of another program all of them."""
    script = tmp_path / name
    script.write_text(HOLDER.replace("sys.argv[1]", "sys.argv[2]"))
    command = [sys.executable, str(script), "promote", str(repository), "--token", "secret"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            with pytest.raises(RepositoryLockedError) as caught, writer(repository, timeout_s=0):
                pass
        finally:
            process.kill()
    assert caught.value.holder == f"{process.pid} ({shown})"


def test_a_thread_that_holds_a_lock_takes_it_again(repository):
    """And gives it up with the outermost block."""
    with model(repository, "net"), writer(repository), model(repository, "net"):
        with writer(repository, timeout_s=0):
            pass
        assert taken_elsewhere(lambda: writer(repository, timeout_s=0))
        assert taken_elsewhere(lambda: model(repository, "net", timeout_s=0))
    assert not taken_elsewhere(lambda: writer(repository, timeout_s=0))
    assert not taken_elsewhere(lambda: model(repository, "net", timeout_s=0))


def test_models_are_locked_one_by_one(repository):
    with model(repository, "net"):
        assert taken_elsewhere(lambda: model(repository, "net", timeout_s=0))
        assert not taken_elsewhere(lambda: model(repository, "other", timeout_s=0))
        assert not taken_elsewhere(lambda: writer(repository, timeout_s=0)), "others write their models meanwhile"


def test_the_message_of_a_models_lock_names_the_model(repository, tmp_path):
    with model(repository, "net"):
        error = taken_elsewhere(lambda: model(repository, "net", timeout_s=0))
    assert "model 'net' is being changed by process" in error.what and error.why and error.fix


def test_a_lock_with_an_invalid_name_makes_nothing(repository, tmp_path):
    with pytest.raises(InvalidNameError), model(repository, "../x"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_no_holder_s_name_stops_nobody(repository):
    """On a full disk versions can still be deleted: here the lock's file takes no writing at all."""
    folder = state_folder(repository)
    (folder / LOCKS).mkdir(parents=True)
    (folder / LOCK_FILE).symlink_to("/dev/full")
    with writer(repository):
        pass


def taken_elsewhere(lock) -> RepositoryLockedError | None:
    """What another thread is told that takes the lock; None when it gets it."""
    found = []

    def act() -> None:
        try:
            with lock():
                pass
        except RepositoryLockedError as exc:
            found.append(exc)

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    return found[0] if found else None
