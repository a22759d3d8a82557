"""kill -9 of `modelport promote` and `modelport rollback` at each of their system calls that others can see."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time

import pytest

import modelport
from modelport._process import wait_until
from modelport.errors import RepositoryError, VerificationError
from modelport.lifecycle import trial
from modelport.lifecycle.settle import settle
from modelport.repository import journal
from modelport.server import connection

SEEN = ("connect", "fsync", "flock", "mkdir", "rename", "rmdir", "symlink", "unlink", "unlinkat")
KILLED = -9
TRIES = 5  # where a process of the trial ends late, one call more comes before the one that is meant
# Every run makes the same calls.
QUIET = {"stdin": subprocess.DEVNULL, "env": {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}}

# System call, its number, and what is among its arguments: the trial is being made; the note is written, not yet the
# configuration; that is, the server was not told; it was and all is proved, the note is still there.
CONFIG, FOLDER, NOTE = "/config.pbtxt", "/model_repository/net", ".state/journal/net"
SHORT = {
    "promote": [("symlink", 1, ".trial/2"), ("rename", 2, CONFIG), ("fsync", 4, FOLDER), ("unlink", 2, NOTE)],
    "rollback": [("rename", 2, CONFIG), ("fsync", 4, FOLDER), ("unlink", 1, NOTE)],
}


class DisturbedElsewhere(AssertionError):
    """The command did not make the calls that were expected."""


@pytest.fixture
def disturbed(shelf, require, tmp_path):
    """`disturbed("promote", net, "fsync", "error=EIO:when=5", FOLDER)`: the command, disturbed in its main thread.

    The first call that is disturbed, or the last one of a command that is killed, must have the last word in it.
    """
    require("strace")
    log = tmp_path / "strace"

    def act(verb, model, call, how, where, root=None):
        version = "2" if verb == "promote" else "1"
        strace = ["strace", "-f", "-y", "-qq", "-o", str(log), "-e", f"trace={call}", "-e", f"inject={call}:{how}"]
        line = [sys.executable, "-m", "modelport", verb, model, version, "--repository", str(root or shelf.root)]
        done = subprocess.run([*strace, *line], **QUIET, capture_output=True, text=True, timeout=120)
        calls = [line for line in log.read_text().splitlines() if f" {call}(" in line]
        hit = next((line for line in calls if "(INJECTED)" in line), calls[-1])
        if where not in hit:
            raise DisturbedElsewhere(f"{verb}: {hit}")
        return done

    return act


@pytest.fixture
def killed(disturbed):
    """`killed("promote", net, "fsync", 4, FOLDER)`: the command, ended by SIGKILL at the fourth fsync."""

    def act(verb, model, call, number, where="", root=None):
        done = disturbed(verb, model, call, f"signal=KILL:when={number}", where, root)
        assert done.returncode == KILLED, f"{verb} was not killed at {call} {number}: {done.stdout}{done.stderr}"

    return act


def count(shelf, verb, model, log):
    """How often the main thread of a command makes each of the calls."""
    version = "2" if verb == "promote" else "1"
    line = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={','.join(SEEN)}"]
    line += [sys.executable, "-m", "modelport", verb, model, version, "--repository", str(shelf.root)]
    subprocess.run(line, **QUIET, capture_output=True, timeout=120, check=True)
    calls = re.findall(r"^(\d+) +(\w+)\(", log.read_text(), re.M)
    own = [call for process, call in calls if process == calls[0][0]]
    return [(call, number + 1, "") for call in SEEN for number in range(own.count(call))]


def warm_up(shelf, net):
    """Publish version 2, and let all folders of the state be made."""
    shelf.publish(net)
    modelport.promote(net, repository=shelf.root)
    modelport.rollback(net, repository=shelf.root)


def after_kills(shelf, server, net, load, verb, points, killed, ask, untouched):
    """Kill at each point; the old or the new version serves, and the next command finds nothing half done."""
    for call, number, where in points:
        if verb == "rollback":
            modelport.promote(net, 2, repository=shelf.root)
        killed(verb, net, call, number, where)
        assert ask(server, net) in (1, 2)
        load.wait(20)
        done = modelport.promote(net, 2, repository=shelf.root)
        assert done.loaded == (1, 2) and ask(server, net) == 2, (call, number)
        untouched(server, net, (1, 2))
        done = modelport.rollback(net, 1, repository=shelf.root)
        assert ask(server, net) == 1, (call, number)
        untouched(server, net, (1,))


@pytest.mark.parametrize("verb", SHORT)
def test_a_killed_command_leaves_the_old_or_the_new(shelf, server, net, callers, killed, ask, untouched, verb):
    warm_up(shelf, net)
    with callers(server, net, pinned=None) as load:
        after_kills(shelf, server, net, load, verb, SHORT[verb], killed, ask, untouched)
    assert load.violations([1, 2]) == []


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("verb", SHORT)
def test_killed_at_every_call(shelf, server, net, callers, killed, ask, untouched, tmp_path, verb):
    warm_up(shelf, net)
    if verb == "rollback":
        modelport.promote(net, 2, repository=shelf.root)
    points = count(shelf, verb, net, tmp_path / "trace")
    if verb == "promote":
        modelport.rollback(net, repository=shelf.root)
    print(f"{verb}: {len(points)} calls")
    assert len(points) > 15
    with callers(server, net, pinned=None) as load:
        after_kills(shelf, server, net, load, verb, points, killed, ask, untouched)
    assert load.violations([1, 2]) == []


# Error and its place: the configuration and whatever would put it back; its folder, when it is in place; the note, when
# all is proved; and in the long form the note and the configuration before they count, and the trial.
REFUSED = [
    ("rename", "error=ENOSPC:when=2+", CONFIG),
    ("fsync", "error=EIO:when=4", FOLDER),
    ("unlink", "error=EIO:when=2", NOTE),
]
MORE = [
    ("rename", "error=ENOSPC:when=1", NOTE),
    ("fsync", "error=EIO:when=3", CONFIG),
    ("symlink", "error=ENOSPC", ".trial/2"),
]


@pytest.mark.parametrize(
    ("call", "how", "where"), [*REFUSED, *(pytest.param(*one, marks=pytest.mark.soak) for one in MORE)]
)
def test_a_disk_that_refuses_leaves_the_old_version_serving(
    shelf, server, net, callers, disturbed, ask, untouched, call, how, where
):
    warm_up(shelf, net)
    with callers(server, net, pinned=None) as load:
        failed = disturbed("promote", net, call, how, where)
        load.wait(20)
    said = " ".join(failed.stderr.split())
    assert failed.returncode == RepositoryError.exit_code and "cannot be written" in said, said
    assert load.violations([1, 2]) == []
    untouched(server, net, (1,))
    assert ask(server, net) == 1
    assert modelport.promote(net, 2, repository=shelf.root).version == 2


def test_a_disk_that_refuses_to_put_back_is_made_good_later(shelf, server, net, disturbed, ask, untouched):
    """The new version does not serve as it should, and the old configuration cannot be written: the note stays."""
    shelf.publish(f"{net}py", python={})
    server.load(f"{net}py")
    odd = 'self.odd = 0 if args["model_name"].endswith(".trial") else 1'
    shelf.publish(f"{net}py", python={"initialize": odd, "execute": "x = x + self.odd"})
    failed = disturbed("promote", f"{net}py", "rename", "error=ENOSPC:when=3+", CONFIG)
    assert failed.returncode == VerificationError.exit_code, failed.stderr
    assert "going back to what served failed" in " ".join(failed.stderr.split())
    assert journal.pending(shelf.root) == [f"{net}py"]
    assert settle(shelf.root, server.handle) == [f"{net}py"]
    untouched(server, f"{net}py", (1,))
    assert ask(server, f"{net}py") == 1
    server.unload(f"{net}py")


def test_another_command_repairs_the_files_and_whoever_watches_the_server(shelf, server, net, killed, ask, untouched):
    """The next command on the model may be one that does not talk to the server."""
    shelf.publish(net)
    killed("promote", net, "unlink", 2, NOTE)
    assert ask(server, net) == 2 and shelf.named(net) == (1, 2), "proved, but its end was not noted"
    assert shelf.publish(net).version == 3
    assert shelf.named(net) == (1,) and journal.to_load(shelf.root) == [net]
    assert settle(shelf.root, server.handle) == [net]
    untouched(server, net, (1,))
    assert ask(server, net) == 1


def test_what_is_left_on_trial_goes_with_whoever_watches_the_server(shelf, server, net, killed, untouched):
    shelf.publish(net)
    killed("promote", net, "rmdir", 1, ".trial")
    assert trial.left(server.handle) == [net]
    killed("promote", net, "unlinkat", 1, ".trial")
    assert server.ready_versions(net) == (1,)
    assert settle(shelf.root, server.handle) == [net]
    untouched(server, net, (1,))


def test_a_command_that_works_is_left_alone(shelf, server, net, killed):
    shelf.publish(net)
    killed("promote", net, "rmdir", 1, ".trial")
    command = [sys.executable, "-c", HOLD, str(shelf.root), net]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert settle(shelf.root, server.handle) == [] and trial.left(server.handle) == [net]
        other.communicate("go\n", timeout=30)
    assert settle(shelf.root, server.handle) == [net] and trial.left(server.handle) == []


HOLD = """
import sys
from pathlib import Path
from modelport.repository import lock
with lock.model(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    input()
"""


def test_modelport_serve_takes_back_what_a_killed_command_began(shelf, tmp_path, killed, ask):
    """Without any further command."""
    own = type(shelf)(tmp_path / "model_repository")
    own.publish("net")
    line = [sys.executable, "-m", "modelport", "serve", "--repository", str(own.root)]
    line += ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(line, stdout=log, stderr=log) as serving:
        try:
            assert wait_until(lambda: connection.find(own.root) is not None, timeout_s=30)
            running = connection.find(own.root)
            own.publish("net")
            for call, number, where in (point for point in SHORT["promote"] if point[0] != "fsync"):
                hit = False
                for _ in range(TRIES):
                    with contextlib.suppress(DisturbedElsewhere):
                        killed("promote", "net", call, number, where, root=own.root)
                        hit = True
                    started = time.monotonic()
                    assert wait_until(lambda: own.named("net") == running.ready_versions("net") == (1,), timeout_s=15)
                    assert wait_until(lambda: trial.left(running) == journal.to_load(own.root) == [], timeout_s=15)
                    print(f"{call} {number}: taken back after {time.monotonic() - started:.1f} s")
                    assert ask(running, "net") == 1
                    if hit:
                        break
                assert hit, f"none of {TRIES} promotions was killed at {call} {number}, {where}"
            assert modelport.promote("net", repository=own.root).version == 2
        finally:
            serving.terminate()
            assert serving.wait(30) == 0, (tmp_path / "log").read_text()
