"""The life of `modelport serve --gateway`: changes, deaths and the end, with callers that notice none of it."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import psutil
import pytest

import modelport
from modelport._process import wait_until
from modelport.commands.status import status
from modelport.errors import ServerError
from modelport.gateway.gateway import Gateway
from modelport.gateway.keys import register
from modelport.gateway.settings import Settings, Upstream
from modelport.repository import events
from modelport.repository.layout import state_folder
from modelport.server import connection
from modelport.supervisor import gateway as supervised

CALLERS = 20
TAKEN_WITHIN_S = 5.0
BACK_WITHIN_S = 15.0


class Service:
    """`modelport serve --gateway`, as a process of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        words = ["--gateway", "--plain"]
        words += [word for name in ("http", "grpc", "metrics", "gateway") for word in (f"--{name}-port", "0")]
        command = [sys.executable, "-m", "modelport", "serve", "--repository", str(root), *words]
        self.lines: list[str] = []
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True).start()
        assert wait_until(lambda: any("Ctrl-C" in line for line in self.lines), timeout_s=60), self.lines

    def url(self, name: str) -> str:
        found = [re.search(rf"^ +{name} +(\S+)", line) for line in self.lines]
        return next(match[1] for match in found if match)

    def page(self, name: str) -> tuple[int, str]:
        """A page of the supervisor."""
        try:
            with urllib.request.urlopen(self.url("health").replace("readyz", name), timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as exc:
            return exc.code, exc.read().decode()

    def figure(self, name: str) -> float:
        found = re.search(rf"^{name} (\S+)$", self.page("metrics")[1], re.MULTILINE)
        return float(found[1]) if found else -1.0

    @property
    def envoy(self) -> psutil.Process:
        return next(one for one in psutil.Process(self.process.pid).children() if one.name() == "envoy")

    def kinds(self) -> list[str]:
        return [one.kind for one in events.latest(self.root, 1000)]


@pytest.fixture(scope="module")
def service(shelf, slow_s):
    shelf.publish("net")
    shelf.publish("slow", python={"execute": f"time.sleep({slow_s / 2})"}, batch=1)
    running = Service(shelf.root)
    yield running
    if running.process.poll() is None:
        running.process.terminate()
        running.process.wait(30)


@pytest.fixture(scope="module")
def front(service, asking):
    """The service's gateway, which looks for itself what has changed."""
    gateway = SimpleNamespace(
        repository=service.root, settings=SimpleNamespace(url=service.url("gateway")), refresh=lambda: time.sleep(1)
    )
    return asking(gateway)


@pytest.fixture(scope="module", autouse=True)
def token(front):
    given = front.key("acme")
    assert front.until(200, given) < TAKEN_WITHIN_S
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELPORT_TOKEN", given)
        yield given


def test_status_and_metrics_show_the_gateway(service):
    """Its process and URL; `modelport_gateway_up` is 1, and the service is ready."""
    found = status(service.root, sample_s=0.1)
    assert (found.gateway, found.gateway_url) == (service.envoy.pid, service.url("gateway"))
    assert service.figure("modelport_gateway_up") == 1
    assert service.page("readyz")[0] == 200


def test_b1_promotions_and_key_changes_under_load_lose_no_request(service, shelf, front, callers):
    """Version 2 is promoted and taken back while keys and limits change: every answer is one of the two, and right."""
    front.gateway.refresh = lambda: None
    with callers(front, "net") as load:
        shelf.publish("net")
        modelport.promote("net", repository=shelf.root)
        for number in range(3):
            front.key(f"other{number}", rate_per_s=1.0 + number, concurrency=1 + number)
            time.sleep(0.6)
        modelport.rollback("net", repository=shelf.root)
        load.wait(100)
    front.gateway.refresh = lambda: time.sleep(1)
    print(f"{len(load.answers)} requests")
    assert load.violations([1.0, 2.0]) == []
    assert {one.value for one in load.answers} == {1.0, 2.0}


def test_a_revoked_key_is_refused_soon_and_no_connection_dropped(front, callers):
    """Within five seconds, with 403 on the very connection that it had, and again; nobody else notices."""
    gone = front.key("gone")
    assert front.until(200, gone) < TAKEN_WITHIN_S
    place = urlsplit(front.http_url)
    connection = socket.create_connection((place.hostname, place.port), timeout=10)
    request = f"GET /v2/models/net HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {gone}\r\n\r\n".encode()

    def ask() -> int:
        connection.sendall(request)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        answer.read()
        return answer.status

    with callers(front, "net") as load:
        assert ask() == 200
        began = time.monotonic()
        front.gateway.refresh, before = (lambda: None), front.gateway.refresh
        front.revoke(gone)
        assert wait_until(lambda: ask() == 403, timeout_s=TAKEN_WITHIN_S)
        took_s = time.monotonic() - began
        front.gateway.refresh = before
        assert ask() == 403
        assert front.ask(gone, "grpc").status == 403
        load.wait(50)
    connection.close()
    print(f"refused after {took_s:.2f} s")
    assert load.violations([1.0]) == []


def test_a_configuration_that_cannot_be_used_leaves_the_one_before(service, front, token):
    """The register of keys is damaged: it is told once, callers are answered; mended, what comes next is taken in."""
    path = register.path(service.root)
    good = path.read_bytes()
    path.write_bytes(b"{")
    assert wait_until(lambda: "gateway_refused" in service.kinds(), timeout_s=5)
    time.sleep(1.2)
    assert service.kinds().count("gateway_refused") == 1
    assert front.ask(token).status == 200
    path.write_bytes(good)
    assert front.until(200, front.key("later")) < TAKEN_WITHIN_S


def test_an_envoy_that_is_killed_is_started_again(service, front, token, kill):
    """On the same port, with the same keys; the service is not ready meanwhile, and both are told."""
    before = service.envoy.pid
    kill(before)
    assert wait_until(lambda: service.page("readyz")[0] == 503 or "gateway_died" in service.kinds(), timeout_s=5)
    took_s = front.until(200, token, within_s=BACK_WITHIN_S)
    print(f"back after {took_s:.1f} s")
    assert service.envoy.pid != before
    assert wait_until(lambda: service.page("readyz")[0] == 200, timeout_s=5)
    assert service.figure("modelport_gateway_restarts_total") == 1
    assert {"gateway_died", "gateway_started"} <= set(service.kinds())


def test_a_server_that_is_started_again_is_followed(service, front, token, kill):
    """Tritonserver is killed: the gateway stays the same, and asks the new one wherever that is."""
    before, handle = service.envoy.pid, connection.read(state_folder(service.root))
    kill(handle.server_pid)
    time.sleep(0.1)
    took_s = front.until(200, token, within_s=BACK_WITHIN_S)
    print(f"back after {took_s:.1f} s")
    assert service.envoy.pid == before
    assert front.until(200, token, protocol="grpc") < BACK_WITHIN_S


def test_what_is_secret_is_for_its_owner_alone(service, token):
    """The gateway's folder is closed to others, its files of configuration and keys too; no token is in any of them."""
    folder = state_folder(service.root) / "gateway"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = [path for path in folder.rglob("*") if path.is_file()]
    closed = [path for path in files if path.suffix == ".json" or "keys" in path.parts]
    assert len(closed) > 5
    assert [path for path in closed if stat.S_IMODE(path.stat().st_mode) != 0o600] == []
    secret = token.rpartition(".")[2].encode()
    assert [path for path in (*files, *state_folder(service.root).glob("*.jsonl")) if secret in path.read_bytes()] == []


def test_b5_sigterm_answers_every_accepted_request_and_leaves_nothing(service, front, token):
    """Ten callers over HTTP and ten over gRPC wait for a slow model: all are answered; then nothing is left."""
    family = psutil.Process(service.process.pid).children(recursive=True)
    folder = state_folder(service.root) / "gateway"
    front.until(200, token, model="slow", within_s=BACK_WITHIN_S)
    with ThreadPoolExecutor(CALLERS) as pool:
        asked = [
            pool.submit(front.ask, token, ("http", "grpc")[n % 2], model="slow", timeout_s=20) for n in range(CALLERS)
        ]
        time.sleep(0.6)
        done_before = sum(one.done() for one in asked)
        service.process.send_signal(signal.SIGTERM)
        answers = [one.result() for one in asked]
    assert done_before < CALLERS / 2, "most of them were still waiting"
    assert [one.status for one in answers] == [200] * CALLERS, answers
    assert service.process.wait(20) == 0
    assert wait_until(lambda: not any(child.is_running() for child in family), timeout_s=5)
    assert [path for path in folder.rglob("*") if path.is_socket()] == []
    assert list(folder.glob("check-*")) == []


@pytest.fixture
def lonely(tmp_path):
    """A gateway whose server does not run."""
    root = tmp_path / "model_repository"
    root.mkdir()
    nowhere = Upstream(host="127.0.0.1", http_port=9, grpc_port=9)
    made = []

    def make(**options):
        made.append(Gateway(root, Settings(port=0, upstreams=(nowhere,), **options)))
        return made[-1]

    yield make
    for one in made:
        one.stop(drain_s=0)


def test_envoys_own_refusal_is_told_and_nothing_replaced(lonely):
    """A port that cannot be: the error has Envoy's reason, files and process stay, and the next change works."""
    gateway = lonely().start()
    files = sorted((gateway.folder / "followed").glob("*.json"))
    before = [path.read_bytes() for path in files]
    with pytest.raises(ServerError, match=r"(?i)port") as caught:
        gateway.refresh([Upstream(host="127.0.0.1", http_port=70000, grpc_port=9)])
    assert "Envoy refuses" in caught.value.what
    assert [path.read_bytes() for path in files] == before and gateway.admin.live()
    (gateway.folder / "check-killed" / "followed").mkdir(parents=True)  # what a gateway leaves that is killed in there
    assert "clusters" in gateway.refresh([Upstream(host="127.0.0.1", http_port=7, grpc_port=9)])
    assert list(gateway.folder.glob("check-*")) == []


def test_a_second_gateway_of_a_repository_is_refused(lonely):
    """It is told which process has it; when that has stopped, it may start."""
    first = lonely().start()
    with pytest.raises(ServerError, match=str(os.getpid())):
        lonely().start()
    assert first.admin.live()
    first.stop()
    assert lonely().start().running


def test_an_envoy_that_outlived_its_parent_makes_room(lonely, tmp_path):
    """Whoever started it was killed: the next gateway ends it, and takes its port."""
    script = (
        "import os, signal; from pathlib import Path; from modelport.gateway.gateway import Gateway\n"
        "from modelport.gateway.settings import Settings, Upstream\n"
        f"gateway = Gateway(Path({str(tmp_path / 'model_repository')!r}), Settings(port=0, upstreams=("
        "Upstream(host='127.0.0.1', http_port=9, grpc_port=9),))).start()\n"
        "print(gateway.pid, gateway.settings.port, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    pid, port = map(int, done.stdout.split())
    left = psutil.Process(pid)
    assert left.is_running()
    gateway = lonely()
    gateway.settings = Settings(port=port, upstreams=gateway.settings.upstreams)
    gateway.start()
    assert gateway.settings.port == port
    assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE


def test_what_was_refused_is_tried_again_after_a_while(lonely, monkeypatch):
    """Although nothing changed: what was in the way may be gone. It is told once, and once that it is taken in."""
    monkeypatch.setattr(supervised, "AGAIN_S", 0.3)
    gateway, told, ports = lonely(), [], [9]
    servers = lambda: (Upstream(host="127.0.0.1", http_port=ports[0], grpc_port=9),)  # noqa: E731
    front = supervised.Front(gateway, lambda event: told.append(event.kind), servers)
    front.start()
    try:
        envoy, gateway._files._program = gateway._files._program, Path("/bin/false")
        ports[0] = 7
        assert wait_until(lambda: "gateway_refused" in told, timeout_s=5)
        time.sleep(1.5)
        gateway._files._program = envoy
        assert wait_until(lambda: "gateway_changed" in told, timeout_s=5)
    finally:
        front.stop()
    assert told == ["gateway_started", "gateway_refused", "gateway_changed"]
