"""Two publishers at once take turns, and the lock of one that was killed is free."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

LOCKED_ERROR = 34


def wait_for(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def test_two_publishers_at_once_take_turns(tmp_path, publishers, others, served):
    """Twenty times: both succeed, no number is given twice, every version is whole; the first one serves."""
    repository = tmp_path / "models"
    runs = []
    for _ in range(20):
        together = threading.Barrier(2)

        def act(who, together=together) -> None:
            together.wait()
            runs.append(who("release", repository))

        threads = [threading.Thread(target=act, args=(who,)) for who in (publishers, others)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(served(repository)) == [1]
    assert [run.code for run in runs] == [0] * 40, [run.said for run in runs if run.code]
    assert sorted(int(path.name) for path in (repository / "net").iterdir() if path.is_dir()) == list(range(1, 41))
    assert list((tmp_path / "models.state" / "staging").iterdir()) == []


def test_the_loser_is_told_who_holds_the_lock_and_a_killed_holders_lock_is_free(tmp_path, case_of, command, publishers):
    """`modelport export` is stopped at its first rename, and later killed there."""
    step = next(step for step in case_of("a new model").steps() if step.name == "rename")
    repository = tmp_path / "models"
    lock = tmp_path / "models.state" / "locks" / "net.lock"
    with command.start(repository, inject=f"rename:signal=STOP:when={step.number}") as strace:
        try:
            wait_for(lambda: "stopped by SIGSTOP" in command.log.read_text())
            holder = int(lock.read_text().split()[0])
            refused = publishers("impatient", repository)
            assert refused.code == LOCKED_ERROR
            assert f"model 'net' is being changed by process {holder} (modelport export)" in refused.said
            assert "  why: " in refused.said and "  do:  " in refused.said
            assert not (repository / "net").exists() and list((tmp_path / "models.state" / "staging").iterdir())
        finally:
            os.kill(int(lock.read_text().split()[0]), signal.SIGKILL)
            strace.wait(20)
    started = time.monotonic()
    done = publishers("release", repository)
    assert done.code == 0, done.said
    assert time.monotonic() - started < 5, "nobody waits for the dead"
    assert list((tmp_path / "models.state" / "staging").iterdir()) == []
