"""Idle connections are closed from outside, busy ones are not, and a dead server's children are ended."""

from __future__ import annotations

import socket
import sys
import time

import psutil
import pytest

from modelport._process import Child
from modelport.server import stopping

# Answers each line with its own text, after as many seconds as the line says.
SERVER = """
import socketserver, sys, time
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            time.sleep(float(line))
            self.wfile.write(line)
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
with Server(("127.0.0.1", 0), Handler) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
"""


@pytest.fixture
def server(tmp_path):
    with Child([sys.executable, "-c", SERVER], log=tmp_path / "log") as child:
        deadline = time.monotonic() + 10
        while not child.log_tail().strip() and time.monotonic() < deadline:
            time.sleep(0.02)
        yield child, int(child.log_tail())


def connect(port):
    sock = socket.create_connection(("127.0.0.1", port), timeout=5)
    return sock


def ask(sock, seconds):
    sock.sendall(f"{seconds}\n".encode())


def test_idle_connections_are_closed_and_busy_ones_answered(server):
    child, port = server
    with connect(port) as silent, connect(port) as answered, connect(port) as first, connect(port) as second:
        for sock in (answered, second):
            ask(sock, 0)
            assert sock.recv(10) == b"0\n"
        ask(first, 1)
        time.sleep(0.1)
        ask(second, 1)
        time.sleep(0.1)
        assert stopping.close_idle(child.pid, port) == 2
        assert silent.recv(10) == b""
        assert answered.recv(10) == b""
        assert first.recv(10) == b"1\n"
        assert second.recv(10) == b"1\n"


def test_a_request_sent_together_with_the_last_answer_counts_as_busy(server):
    child, port = server
    with connect(port) as sock:
        for _ in range(20):
            ask(sock, 0)
            assert sock.recv(10) == b"0\n"
        ask(sock, 0.5)
        time.sleep(0.1)
        assert stopping.close_idle(child.pid, port) == 0
        assert sock.recv(10) == b"0.5\n"


def test_other_ports_and_processes_that_are_gone_are_left_alone(server):
    child, port = server
    with connect(port):
        assert stopping.close_idle(child.pid, port + 1) == 0
    child.stop()
    assert stopping.close_idle(child.pid, port) == 0


def test_terminate_returns_as_soon_as_the_process_has_ended(server):
    child, port = server
    started = time.monotonic()
    stopping.terminate(child, port, grace_s=10)
    assert child.returncode() is not None
    assert time.monotonic() - started < 3


def test_what_is_left_of_a_session_is_killed(tmp_path):
    code = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True)"
    with Child([sys.executable, "-c", code], log=tmp_path / "log") as child:
        assert child.wait(10) == 0
        orphan = psutil.Process(int(child.log_tail()))
        assert orphan.status() != psutil.STATUS_ZOMBIE
        stopping.end_session(child.pid)
        _, alive = psutil.wait_procs([orphan], timeout=5)
        assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
