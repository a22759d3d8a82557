"""Orders on one model take turns, over threads and processes; a dead holder holds nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelport.errors import InvalidNameError, ServerTimeoutError
from modelport.server import orders

HOLD = """
import sys
from pathlib import Path
from modelport.server import orders
with orders.alone(Path(sys.argv[1]), "m", timeout_s=1):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_threads_take_turns_on_one_model_and_not_on_two(tmp_path):
    inside, most = {"a": 0, "b": 0}, {"a": 0, "b": 0}
    both = threading.Barrier(2)

    def work(name):
        for _ in range(20):
            with orders.alone(tmp_path, name, timeout_s=20):
                inside[name] += 1
                most[name] = max(most[name], inside[name])
                time.sleep(0.001)
                inside[name] -= 1

    def meet(name):
        with orders.alone(tmp_path, name, timeout_s=20):
            both.wait(timeout=10)

    with ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(work, name) for name in "ab" for _ in range(3)]:
            future.result()
        for future in [pool.submit(meet, name) for name in "ab"]:
            future.result()
    assert most == {"a": 1, "b": 1}


def test_another_process_keeps_us_waiting_until_it_dies(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(ServerTimeoutError, match="by somebody else"), orders.alone(tmp_path, "m", timeout_s=0.1):
            pytest.fail("the other process holds it")
        other.kill()
        other.wait()
        with orders.alone(tmp_path, "m", timeout_s=5):
            pass


def test_without_a_run_folder_nothing_is_locked_and_nothing_made(tmp_path):
    for run in (None, tmp_path / "gone"):
        with orders.alone(run, "m", timeout_s=0), orders.alone(run, "m", timeout_s=0):
            pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../m", "a/b", "", "/m", "x" * 300])
def test_what_is_no_model_name_is_refused_and_nothing_is_made(tmp_path, name):
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(InvalidNameError), orders.alone(run, name, timeout_s=0):
        pytest.fail("it is no name")
    assert list(tmp_path.iterdir()) == [run] and not list(run.iterdir())


def test_an_order_that_fails_frees_the_model(tmp_path):
    with pytest.raises(KeyError), orders.alone(tmp_path, "m", timeout_s=0):
        raise KeyError
    with orders.alone(tmp_path, "m", timeout_s=0):
        pass
