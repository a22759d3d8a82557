"""Processes are started without a shell, and stopped for certain, with everything that they started."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from modelport._process import Child, run, tail, wait_until
from modelport.errors import ProcessError

FOREVER = "import time; time.sleep(600)"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def written(path: Path) -> int:
    """The number that a process writes into a file as soon as it runs."""
    assert wait_until(lambda: path.exists() and path.read_text().endswith("\n"), timeout_s=20)
    return int(path.read_text())


def with_grandchild(note: Path, then: str) -> list[str]:
    """A program that starts another one, notes its number, and goes on with `then`."""
    return python(
        "import pathlib, subprocess, sys, time, os\n"
        f"one = subprocess.Popen([sys.executable, '-c', {FOREVER!r}])\n"
        f"pathlib.Path({str(note)!r}).write_text(f'{{one.pid}}\\n')\n{then}"
    )


def test_run_returns_everything_that_the_program_wrote():
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr)"
    assert run(python(code)) == "out\nerr\n"


def test_run_passes_arguments_untouched():
    """No shell sees the command: blanks, `;` and `$` reach the program as they are."""
    odd = ["a b", "$HOME", ";false", "'", "*"]
    assert run([*python("import sys; print(sys.argv[1:])"), *odd]) == f"{odd}\n"


def test_run_uses_the_given_environment_and_folder(tmp_path):
    code = "import os; print(os.getcwd(), os.environ['WORD'])"
    assert run(python(code), env={"WORD": "here"}, cwd=tmp_path) == f"{tmp_path} here\n"


def test_output_that_is_no_text_does_not_matter():
    assert run(python("import sys; sys.stdout.buffer.write(b'\\xff ok')")).endswith(" ok")


def test_a_failing_program_is_reported_with_code_command_and_last_lines():
    with pytest.raises(ProcessError) as caught:
        run(python("print('\\n'.join(map(str, range(100)))); raise SystemExit(3)"))
    error = caught.value
    assert error.returncode == 3 and error.command[0] == sys.executable
    assert error.output_tail.splitlines()[0] == "50" and error.why.splitlines()[0] == "90"
    assert error.exit_code == 60 and error.fix


@pytest.mark.parametrize(
    ("command", "where", "words"),
    [
        (["no-such-program"], None, "is missing"),
        (["/etc/passwd"], None, "cannot be started"),
        ([sys.executable, "-V"], "missing", "cannot be started"),
    ],
)
def test_a_program_that_cannot_be_started_is_one_error(tmp_path, command, where, words):
    """Missing, not executable, or to be run in a folder that is not there; `run` and `Child` say the same."""
    cwd = tmp_path / where if where else None
    for start in (lambda: run(command, cwd=cwd), lambda: Child(command, log=tmp_path / "log", cwd=cwd)):
        with pytest.raises(ProcessError, match=words) as caught:
            start()
        assert caught.value.why and caught.value.fix and caught.value.__cause__ is not None


def test_a_program_that_takes_too_long_is_ended_with_what_it_started(tmp_path):
    note = tmp_path / "pid"
    started = time.monotonic()
    with pytest.raises(ProcessError, match="did not end within 1 s"):
        run(with_grandchild(note, "time.sleep(600)"), timeout_s=1)
    assert time.monotonic() - started < 20
    assert wait_until(lambda: not lives(written(note)), timeout_s=5)


def test_a_program_that_leaves_a_child_with_its_output_is_ended_too(tmp_path):
    """The pipe stays open although the program itself has ended."""
    note = tmp_path / "pid"
    with pytest.raises(ProcessError, match="did not end"):
        run(with_grandchild(note, "sys.exit(0)"), timeout_s=1)
    assert wait_until(lambda: not lives(written(note)), timeout_s=5)


def test_a_child_writes_to_its_log_and_tells_its_exit_code(tmp_path):
    with Child(python("print('hello'); raise SystemExit(7)"), log=tmp_path / "logs" / "x.log") as child:
        assert child.wait(20) == 7
        assert child.returncode() == 7
        assert child.log_tail() == "hello"
        assert child.stop() == 7


def test_log_tail_gives_the_last_lines_of_a_long_log(tmp_path):
    with Child(python("print('\\n'.join(map(str, range(50000))))"), log=tmp_path / "x.log") as child:
        child.wait(20)
        assert child.log_tail(3).splitlines() == ["49997", "49998", "49999"]
        child.log.unlink()
        assert child.log_tail() == ""


def test_wait_gives_none_while_the_child_runs(tmp_path):
    with Child(python(FOREVER), log=tmp_path / "x.log") as child:
        assert child.wait(0.05) is None
        assert child.returncode() is None
        pid = child.pid
    assert not lives(pid)


def test_stop_terminates_first(tmp_path):
    """A program that ends by itself on SIGTERM is not killed."""
    note = tmp_path / "note"
    code = (
        "import pathlib, signal, sys, time\n"
        f"note = pathlib.Path({str(note)!r})\n"
        "signal.signal(signal.SIGTERM, lambda *_: (note.write_text('bye'), sys.exit(5)))\n"
        "note.write_text('0\\n')\ntime.sleep(600)"
    )
    child = Child(python(code), log=tmp_path / "x.log")
    written(note)
    assert child.stop() == 5
    assert note.read_text() == "bye"


def test_stop_kills_what_ignores_the_request(tmp_path):
    note = tmp_path / "note"
    code = (
        "import os, pathlib, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(note)!r}).write_text(f'{{os.getpid()}}\\n')\ntime.sleep(600)"
    )
    child = Child(python(code), log=tmp_path / "x.log")
    written(note)
    assert child.stop(grace_s=0.2) == -signal.SIGKILL


@pytest.mark.parametrize("then", ["time.sleep(600)", "sys.exit(0)", "os.kill(os.getpid(), 9)"])
def test_stop_ends_what_the_child_started(tmp_path, then):
    """Also when the child itself has ended already: then its own children have no parent that could be asked."""
    note = tmp_path / "pid"
    child = Child(with_grandchild(note, then), log=tmp_path / "x.log")
    grandchild = written(note)
    if "sleep" not in then:
        assert child.wait(20) is not None
    child.stop(grace_s=1)
    assert not lives(grandchild)


def test_stop_twice_does_no_harm(tmp_path):
    child = Child(python(FOREVER), log=tmp_path / "x.log")
    assert child.stop() == child.stop()


def test_ctrl_c_in_the_terminal_does_not_reach_a_child(tmp_path):
    """It is in a session of its own."""
    with Child(python(FOREVER), log=tmp_path / "x.log") as child:
        assert os.getsid(child.pid) == child.pid != os.getsid(0)


def test_wait_until_asks_again_and_gives_up():
    ready = threading.Event()
    threading.Timer(0.1, ready.set).start()
    assert wait_until(ready.is_set, timeout_s=5)
    assert not wait_until(lambda: False, timeout_s=0.05)
    assert wait_until(lambda: True, timeout_s=0)


def test_tail_keeps_the_last_lines():
    assert tail("a\nb\nc\n", 2) == "b\nc"
    assert tail("", 5) == ""


def test_another_signal_may_come_first(tmp_path):
    """A program that cleans up on SIGINT only is asked with that."""
    code = "import signal, sys, time\nsignal.signal(signal.SIGINT, lambda *_: sys.exit(7))\nprint('up', flush=True)\n"
    code += "time.sleep(60)"
    with Child([sys.executable, "-c", code], log=tmp_path / "log") as child:
        assert wait_until(lambda: "up" in child.log_tail(), timeout_s=20)
        assert child.stop(first=signal.SIGINT) == 7


def test_a_child_may_open_more_files_than_its_parent(tmp_path):
    """1024 of a shell or of systemd are soon used up by callers' connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with Child([sys.executable, "-c", "import time; time.sleep(60)"], log=tmp_path / "log") as child:
            assert resource.prlimit(child.pid, resource.RLIMIT_NOFILE) == (min(65_536, hard), hard)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
