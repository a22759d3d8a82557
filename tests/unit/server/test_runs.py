"""A start's folder lives as long as its parent; what a killed parent leaves is cleared, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from modelport.errors import EnvironmentUnfitError
from modelport.server import runs, shared_memory
from modelport.server.runs import Run

KEEP = """
import sys
from pathlib import Path
from modelport.server.runs import Run
Run(Path(sys.argv[1]), sys.argv[2])
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def prefix():
    """Of shared memory; two entries with it, and one of another start."""
    own, other = shared_memory.new_prefix(), shared_memory.new_prefix()
    paths = [shared_memory.FOLDER / name for name in (f"{own}a", f"{own}b", f"{other}a")]
    for path in paths:
        path.touch()
    yield own
    assert paths[-1].exists(), "another start's memory is not touched"
    for path in paths:
        path.unlink(missing_ok=True)


def test_a_run_is_left_alone_while_it_is_held_and_removes_itself(tmp_path, prefix):
    run = Run(tmp_path, prefix)
    assert run.trial.is_dir() and not list(run.trial.iterdir())
    assert run.folder == tmp_path / "runs" / prefix.removesuffix("_")
    assert runs.clear_stale(tmp_path) == ()
    assert run.trial.is_dir() and len(shared_memory.entries(prefix)) == 2
    run.close()
    assert not run.folder.exists() and not shared_memory.entries(prefix)
    assert runs.clear_stale(tmp_path) == ()


def test_the_run_of_a_killed_process_is_cleared_with_its_shared_memory(tmp_path, prefix):
    with subprocess.Popen(
        [sys.executable, "-c", KEEP, tmp_path, prefix], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        assert runs.clear_stale(tmp_path) == ()
        process.kill()
        process.wait()
    (tmp_path / "runs" / prefix.removesuffix("_") / "trial" / "m.trial").mkdir()
    (cleared,) = runs.clear_stale(tmp_path)
    assert cleared.processes == () and cleared.shared_memory == (f"{prefix}a", f"{prefix}b")
    assert not list((tmp_path / "runs").iterdir())
    assert "no process was left, removed 2" in str(cleared)


def test_folders_without_a_lock_file_are_cleared_and_no_folder_is_nothing_to_clear(tmp_path, prefix):
    assert runs.clear_stale(tmp_path / "absent") == ()
    (tmp_path / "runs" / prefix.removesuffix("_") / "trial").mkdir(parents=True)
    assert len(runs.clear_stale(tmp_path)) == 1
    assert not list((tmp_path / "runs").iterdir())


def test_a_new_run_is_whole_however_often_others_clear_meanwhile(tmp_path):
    stop = threading.Event()

    def clear():
        while not stop.is_set():
            runs.clear_stale(tmp_path)

    threads = [threading.Thread(target=clear) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(200):
            run = Run(tmp_path, f"modelport_test_{number}_")
            assert run.trial.is_dir() and (run.folder / "lock").is_file()
            run.close()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_state_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentUnfitError, match="run folder"):
        Run(tmp_path / "file", "modelport_test_")
