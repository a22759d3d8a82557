"""`modelport serve` gets SIGTERM while callers wait: all who were accepted are answered, and nothing is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import psutil
import pytest

from modelport._process import wait_until
from modelport.server import connection, shared_memory

RUN_S = 0.15
SLOW = f"""
time.sleep({RUN_S})
return [
    pb_utils.InferenceResponse([pb_utils.Tensor("y", 2 * pb_utils.get_input_tensor_by_name(r, "x").as_numpy())])
    for r in requests
]
"""
CALLERS = 20


@dataclass
class Service:
    """A running `modelport serve`, and where it answers."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def url(self, name: str) -> str:
        found = [re.search(rf"^ +{name} +(\S+)", line) for line in self.lines]
        return next((match[1] for match in found if match), "")

    @property
    def http_url(self) -> str:
        return self.url("HTTP")

    @property
    def grpc_url(self) -> str:
        return self.url("gRPC")

    def accepted(self) -> int:
        """Requests that wait in Triton; one more is running."""
        with urllib.request.urlopen(self.url("metrics"), timeout=5) as answer:
            text = answer.read().decode()
        found = re.search(r'^nv_inference_pending_request_count\{model="slow",version="1"\} (\d+)', text, re.MULTILINE)
        return int(found[1]) if found else 0


@pytest.fixture
def repository(tmp_path, zoo):
    root = tmp_path / "model_repository"
    root.mkdir()
    type(zoo)(root).python("slow", "x:FP32[2]", "y:FP32[2]", SLOW, batch=1)
    return root


@pytest.fixture
def service(repository) -> Iterator[Service]:
    ports = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")
    command = [sys.executable, "-m", "modelport", "serve", "--repository", str(repository), *ports]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    running = Service(process)
    reader = threading.Thread(target=lambda: running.lines.extend(process.stdout), daemon=True)
    reader.start()
    try:
        assert wait_until(lambda: any("Ctrl-C" in line for line in running.lines), timeout_s=60), running.lines
        yield running
    finally:
        if process.poll() is None:
            handle = connection.read(connection.state_folder(repository))
            process.kill()
            process.wait(10)
            if handle is not None:
                os.kill(handle.server_pid, signal.SIGKILL)


@pytest.fixture
def server(service):
    """What `caller` sends to."""
    return service


def waiting(service, callers, send) -> tuple[ThreadPoolExecutor, list]:
    """Every caller's request is in Triton: one runs, the others wait."""
    pool = ThreadPoolExecutor(callers)
    asked = [pool.submit(send, number) for number in range(callers)]
    deadline = time.monotonic() + 10
    seen = 0
    while seen < callers - 2 and time.monotonic() < deadline:
        seen = max(seen, service.accepted() + sum(future.done() for future in asked))
        time.sleep(0.01)
    assert seen >= callers - 2, f"only {seen} requests reached the server"
    return pool, asked


def test_sigterm_answers_every_accepted_request_and_ends_with_0(service, repository, caller, protocol):
    """B5: twenty callers wait; all get their own right answer, the exit code is 0, and nothing is left behind."""
    handle = connection.read(connection.state_folder(repository))
    family = psutil.Process(service.process.pid).children(recursive=True)
    pool, asked = waiting(
        service, CALLERS, lambda number: caller("slow", {"x": np.array([[number, -number]], np.float32)})
    )
    with pool:
        time.sleep(0.1)
        done_before = sum(future.done() for future in asked)
        service.process.send_signal(signal.SIGTERM)
        answers = [future.result() for future in asked]
    assert done_before < CALLERS / 2, "most of them were still waiting"
    assert [answer.status for answer in answers] == [200] * CALLERS, [a.error for a in answers if a.status != 200]
    for number, answer in enumerate(answers):
        np.testing.assert_array_equal(answer.arrays["y"], [[2 * number, -2 * number]])
    assert service.process.wait(20) == 0
    assert wait_until(lambda: not any(child.is_running() for child in family), timeout_s=5)
    assert not list(connection.state_folder(repository).glob("server.json"))
    assert not shared_memory.entries(handle.shm_prefix)


def test_without_the_grace_callers_lose_their_answers(service, caller, protocol):
    """Negative control: a server that is killed answers nobody, and the same count shows it."""
    handle_pid = next(
        child.pid for child in psutil.Process(service.process.pid).children() if child.name() == "tritonserver"
    )
    pool, asked = waiting(service, CALLERS, lambda number: caller("slow", {"x": np.zeros((1, 2), np.float32)}))
    with pool:
        os.kill(handle_pid, signal.SIGKILL)
        failed = [future for future in asked if future.exception() is not None or future.result().status != 200]
    assert len(failed) > CALLERS / 2
    service.process.send_signal(signal.SIGTERM)
    service.process.wait(60)
