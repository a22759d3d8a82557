"""The preloaded library: a message to an HTTP thread whose socket is full waits instead of being lost."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from modelport.server import toolchain

BEGIN = """
import os, socket, threading, time
here, there = socket.socketpair()
here.setblocking(False)
sent = []

def fill(size=17):
    try:
        while len(sent) < 100_000:
            sent.append(here.send(bytes(size)))
    except BlockingIOError:
        pass
"""
WAITS = """
def take():
    time.sleep(0.3)
    while sum(taken) < 17 * 2000:
        taken.append(len(there.recv(1000)))

taken = []
thread = threading.Thread(target=take)
thread.start()
for _ in range(2000):
    sent.append(here.send(bytes(17)))
thread.join()
print(sum(taken))
"""
OTHERS = """
fill(1)  # as libevent wakes itself: full means awake
print(len(sent) > 100)
try:
    here.send(bytes(18))
except BlockingIOError:
    print("at once")
"""
HANGS = """
began = time.monotonic()
fill()
print(time.monotonic() - began > 9)
began = time.monotonic()
fill()  # nobody waits again for a thread that hangs
print(time.monotonic() - began < 5)
there.recv(10**6)
fill_again = threading.Timer(0.3, there.recv, [10**6])
fill_again.start()
before = len(sent)
for _ in range(1000):
    here.send(bytes(17))
    sent.append(1)
    if len(sent) - before > 400:
        break
print(len(sent) - before)
"""
CHILD = """
import subprocess
print(os.environ.get("LD_PRELOAD"), subprocess.run(["sh", "-c", "echo $LD_PRELOAD"], capture_output=True, text=True))
"""


@pytest.fixture
def run(require, tmp_path):
    """`run(code)`: what a Python with the library preloaded prints."""
    require("the compiled parts", present=toolchain.SEND.is_file())

    def act(code: str, preload: str = toolchain.SEND.name) -> list[str]:
        env = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": str(toolchain.SEND.parent), "LD_PRELOAD": preload}
        done = subprocess.run(
            [sys.executable, "-c", BEGIN + code], env=env, capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stderr == ""
        return done.stdout.split("\n")[:-1]

    return act


def test_a_sender_waits_until_there_is_room(run):
    assert run(WAITS) == [str(17 * 2000)]


def test_messages_of_other_sizes_are_sent_as_ever(run):
    assert run(OTHERS) == ["True", "at once"]


@pytest.mark.soak
def test_a_reader_that_hangs_is_waited_for_once(run):
    assert run(HANGS) == ["True", "True", "401"]


@pytest.mark.parametrize("others", ["", ":libm.so.6"])
def test_what_the_server_starts_is_not_preloaded(run, others):
    wanted = others[1:]
    [line] = run(CHILD, toolchain.SEND.name + others)
    assert line.startswith(f"{wanted or None} ") and f"stdout='{wanted}\\n', stderr=''" in line
