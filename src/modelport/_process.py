"""The only module that starts processes.

Commands are lists, never joined strings, and no shell is involved. `run` waits for a short program and raises
with its last output; `Child` is a long-running one that writes to a log file and is stopped for certain.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import psutil

from modelport.errors import ProcessError

TAIL_LINES = 50


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
        ProcessError: It is missing, took longer than `timeout_s`, or ended with another code than 0.
    """
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            env=dict(env) if env is not None else None,
            cwd=cwd,
            check=False,
            text=True,
            errors="replace",
        )
    except FileNotFoundError as exc:
        raise ProcessError(
            f"the program {command[0]!r} is missing",
            why="it is not installed, or not on PATH",
            fix=f"install {command[0]!r} and try again",
            command=tuple(command),
        ) from exc
    except subprocess.TimeoutExpired as exc:
        raise ProcessError(
            f"{command[0]!r} did not end within {timeout_s:g} s",
            why="it hangs, or the machine is busy",
            fix="run it by hand to see: " + " ".join(command),
            command=tuple(command),
        ) from exc
    if done.returncode != 0:
        raise ProcessError(
            f"{command[0]!r} ended with code {done.returncode}: {' '.join(command)}",
            why=tail(done.stdout, 10) or "it printed nothing",
            fix="run the command by hand to see more",
            command=tuple(command),
            returncode=done.returncode,
            output_tail=tail(done.stdout),
        )
    return done.stdout


class Child:
    """A long-running process in a session of its own, its output in a log file.

    Ctrl-C in the terminal does not reach it; whoever holds it decides when and how it stops.
    """

    def __init__(
        self, command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.command = tuple(command)
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as sink:
            self._popen = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                cwd=cwd,
                start_new_session=True,
            )

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

    def stop(self, *, grace_s: float = 10.0) -> int:
        """Terminate, wait, kill, and check that it and its children are gone.

        Args:
            grace_s: Seconds between SIGTERM and SIGKILL.

        Returns:
            The exit code; negative when a signal ended it.

        Raises:
            ProcessError: Something of its process group is still alive afterwards.
        """
        family = self._family()
        if self.returncode() is None:
            self._popen.terminate()
            if self.wait(grace_s) is None:
                self._signal_group(signal.SIGKILL)
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
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.Error:
            return []

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _end(processes: list[psutil.Process]) -> list[int]:
    """Kill what of `processes` is left after a short wait; the numbers of those that survive even that."""
    _, alive = psutil.wait_procs(processes, timeout=1.0)
    for process in alive:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(alive, timeout=3.0)
    return [process.pid for process in alive]


def wait_until(condition: Callable[[], bool], *, timeout_s: float, interval_s: float = 0.02) -> bool:
    """Call `condition()` until it is true or `timeout_s` has passed; whether it became true."""
    deadline = time.monotonic() + timeout_s
    while True:
        if condition():
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval_s)
