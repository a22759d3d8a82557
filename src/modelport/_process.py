"""The only module that starts processes.

Commands are lists, never joined strings, and no shell is involved. `run` waits for a short program and raises
with its last output; `Child` is a long-running one that writes to a log file and is stopped for certain.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import psutil

from modelport.errors import ProcessError

TAIL_LINES = 50
FILES = 65_536  # that a long-running process may open


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """The last `lines` lines of `text`."""
    return "\n".join(text.splitlines()[-lines:])


def run(
    command: Sequence[str],
    *,
    timeout_s: float = 600.0,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a program to its end and return what it wrote (stdout and stderr together).

    Raises:
        ProcessError: It cannot be started, took longer than `timeout_s`, or ended with another code than 0.
    """
    with _start(command, subprocess.PIPE, env, cwd) as popen:
        try:
            content, _ = popen.communicate(timeout=timeout_s)
        except BaseException as exc:  # late, or Ctrl-C
            _signal_group(popen.pid, signal.SIGKILL)
            if not isinstance(exc, subprocess.TimeoutExpired):
                raise
            raise ProcessError(
                f"{command[0]!r} did not end within {timeout_s:g} s",
                why="it hangs, or the machine is busy",
                fix="run it by hand to see: " + " ".join(command),
                command=tuple(command),
            ) from exc
    output = content.decode("utf-8", "replace")
    if popen.returncode != 0:
        raise ProcessError(
            f"{command[0]!r} ended with code {popen.returncode}: {' '.join(command)}",
            why=tail(output, 10) or "it printed nothing",
            fix="run the command by hand to see more",
            command=tuple(command),
            returncode=popen.returncode,
            output_tail=tail(output),
        )
    return output


def _start(
    command: Sequence[str], sink: int | IO[bytes], env: Mapping[str, str] | None, cwd: Path | None
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own."""
    try:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=dict(env) if env is not None else None,
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as exc:
        missing = isinstance(exc, FileNotFoundError) and str(exc.filename) == command[0]
        raise ProcessError(
            f"the program {command[0]!r} {'is missing' if missing else 'cannot be started'}",
            why="it is not installed, or not on PATH" if missing else str(exc),
            fix=f"install {command[0]!r} and try again" if missing else "check the program and its folder",
            command=tuple(command),
        ) from exc


def _let_open(pid: int, files: int) -> None:
    """Let a process open so many files and connections, as far as it may: 1024, the usual number, is soon used up."""
    with contextlib.suppress(OSError):  # it has ended
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        most = files if hard == resource.RLIM_INFINITY else min(files, hard)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, hard))


class Child:
    """A long-running process in a session of its own, its output in a log file.

    Ctrl-C in the terminal does not reach it; whoever holds it decides when and how it stops. It may open `FILES` files.

    Raises:
        ProcessError: It cannot be started.
    """

    def __init__(
        self, command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.command = tuple(command)
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as sink:
            self._popen = _start(command, sink, env, cwd)
        _let_open(self._popen.pid, FILES)

    @property
    def pid(self) -> int:
        """Process number."""
        return self._popen.pid

    def returncode(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._popen.poll()

    def wait(self, timeout_s: float) -> int | None:
        """Wait for its end; the exit code, or None when it still runs after `timeout_s`."""
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def log_tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines of its output."""
        try:
            with self.log.open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 64 * 1024))
                return tail(file.read().decode("utf-8", "replace"), lines)
        except FileNotFoundError:
            return ""

    def stop(self, *, grace_s: float = 10.0, first: signal.Signals = signal.SIGTERM) -> int:
        """Terminate, wait, kill, and check that it and its children are gone.

        Args:
            grace_s: Seconds between the first signal and SIGKILL.
            first: What asks it to end; SIGINT for a program that cleans up only then.

        Returns:
            The exit code; negative when a signal ended it.

        Raises:
            ProcessError: Something of its process group is still alive afterwards.
        """
        family = self._family()
        if self.returncode() is None:
            self._popen.send_signal(first)
            if self.wait(grace_s) is None:
                _signal_group(self.pid, signal.SIGKILL)
                self.wait(5.0)
        left = _end(family)
        code = self.returncode()
        if left or code is None:
            raise ProcessError(
                f"{self.command[0]!r} (process {self.pid}) could not be stopped",
                why=f"still alive after SIGKILL: {left or [self.pid]}",
                fix="end these processes by hand",
                command=self.command,
                output_tail=self.log_tail(),
            )
        return code

    def _family(self) -> list[psutil.Process]:
        """Its children, and those of its session whose parent is gone."""
        found: dict[int, psutil.Process] = {}
        with contextlib.suppress(psutil.Error):
            found = {child.pid: child for child in psutil.Process(self.pid).children(recursive=True)}
        for process in psutil.process_iter():
            with contextlib.suppress(OSError):
                if process.pid != self.pid and os.getsid(process.pid) == self.pid:
                    found[process.pid] = process
        return list(found.values())

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _signal_group(leader: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, number)


def _end(processes: list[psutil.Process]) -> list[int]:
    """Kill what of `processes` is left after a short wait; the numbers of those that survive even that."""
    if not wait_until(lambda: not any(map(_lives, processes)), timeout_s=1.0):
        for process in filter(_lives, processes):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        wait_until(lambda: not any(map(_lives, processes)), timeout_s=3.0)
    return [process.pid for process in processes if _lives(process)]


def _lives(process: psutil.Process) -> bool:
    """Whether it runs; one that has ended and that its parent has not yet asked for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool], *, timeout_s: float, interval_s: float = 0.02) -> bool:
    """Call `condition()` until it is true or `timeout_s` has passed; whether it became true."""
    deadline = time.monotonic() + timeout_s
    while True:
        if condition():
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval_s)
