"""HTTP servers that refuse, reset, stall, or talk nonsense (G2): what is sent again, what is not, how long it takes."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from modelport.client import Client
from modelport.errors import DeadlineError, RemoteError, RequestError, UnavailableError, UnreachableError

METADATA = json.dumps(
    {
        "name": "m",
        "versions": ["1"],
        "platform": "x",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
    }
).encode()

Reaction = Callable[[socket.socket], None]


def answer(status: int, body: bytes = b'{"error": "because"}', **headers: str) -> Reaction:
    """Send a whole answer."""
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return raw("\r\n".join([*lines, "", ""]).encode() + body)


def raw(data: bytes) -> Reaction:
    return lambda sock: sock.sendall(data)


def reset(sock: socket.socket) -> None:
    """Close with a TCP reset in place of an answer."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def cut(sock: socket.socket) -> None:
    """Close in the middle of the body."""
    sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{")
    sock.close()


def stall(sock: socket.socket) -> None:
    """Say nothing until the client goes."""
    sock.settimeout(20)
    sock.recv(1)


def drip(sock: socket.socket) -> None:
    """Send an endless answer, a byte every 20 ms: each read succeeds, the whole never ends."""
    sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    for _ in range(1000):
        sock.sendall(b" ")
        time.sleep(0.02)


def drip_header(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nx: ")
    for _ in range(1000):
        sock.sendall(b"y")
        time.sleep(0.02)


class Script:
    """A server that reacts to its n-th request with the n-th reaction, and with the last one from then on."""

    def __init__(self, *reactions: Reaction) -> None:
        self._reactions = reactions
        self.times: list[float] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def requests(self) -> int:
        return len(self.times)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            sock.settimeout(20)
            try:
                while self._read_request(sock):
                    with self._lock:
                        self.times.append(time.monotonic())
                        reaction = self._reactions[min(len(self.times), len(self._reactions)) - 1]
                    reaction(sock)
            except OSError:
                return

    @staticmethod
    def _read_request(sock: socket.socket) -> bool:
        data = b""
        while b"\r\n\r\n" not in data:
            more = sock.recv(65536)
            if not more:
                return False
            data += more
        head, _, rest = data.partition(b"\r\n\r\n")
        lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        missing = int(lengths[0]) - len(rest) if lengths else 0
        while missing > 0:
            missing -= len(sock.recv(65536)) or missing
        return True

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    """`script(*reactions)`: start such a server."""
    started: list[Script] = []

    def start(*reactions: Reaction) -> Script:
        started.append(Script(*reactions))
        return started[-1]

    yield start
    for server in started:
        server.close()


OK = answer(200, METADATA)


@pytest.mark.parametrize(
    "failure",
    [answer(503), answer(502), answer(429), reset, cut, answer(503, b"upstream connect error")],
    ids=["503", "502", "429", "reset", "cut", "503-of-a-gateway"],
)
def test_what_may_pass_is_tried_again(ask, script, failure):
    server = script(failure, failure, OK)
    assert ask(server.url, "spec", "m").name == "m"
    assert server.requests == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 408, 413, 422, 301, 500, 501, 504])
def test_what_will_not_pass_is_sent_once(ask, script, status):
    server = script(answer(status), OK)
    with pytest.raises((RequestError, RemoteError)) as caught:
        ask(server.url, "spec", "m")
    assert (server.requests, caught.value.status) == (1, status)


@pytest.mark.parametrize(
    "nonsense",
    [
        raw(b"\x00\x01\x02garbage\r\n\r\n"),
        raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
        answer(200, b"<html>welcome</html>"),
        answer(200, b"{}[]"),
        answer(200, b'{"inputs": [{"name": "x", "datatype": "FP99", "shape": [1]}], "outputs": []}'),
    ],
    ids=["bytes", "ssh", "html", "json", "unknown-type"],
)
def test_nonsense_is_a_remote_error_and_sent_once(ask, script, nonsense):
    server = script(nonsense, OK)
    with pytest.raises(RemoteError, match="cannot be read"):
        ask(server.url, "spec", "m")
    assert server.requests == 1


def test_retries_are_capped_and_the_last_failure_is_told(ask, script):
    server = script(answer(503))
    with pytest.raises(RemoteError) as caught:
        ask(server.url, "spec", "m", options={"retries": 2})
    assert (server.requests, caught.value.status) == (3, 503)
    assert "because; this was the last of 3 tries" in caught.value.why


def test_no_retries_when_none_are_wanted(ask, script):
    server = script(answer(503), OK)
    with pytest.raises(RemoteError):
        ask(server.url, "spec", "m", options={"retries": 0})
    assert server.requests == 1


def test_waits_between_tries_grow_and_differ(ask, script):
    server = script(answer(503))
    with pytest.raises(RemoteError):
        ask(server.url, "spec", "m", options={"retries": 2})
    first, second = (b - a for a, b in zip(server.times, server.times[1:], strict=False))
    assert 0.05 <= first <= 0.2 and 0.1 <= second <= 0.3


@pytest.mark.alone
def test_retry_after_is_honoured(ask, script):
    server = script(answer(429, retry_after="1"), OK)
    assert ask(server.url, "spec", "m").name == "m"
    assert 1.0 <= server.times[1] - server.times[0] <= 1.3


def test_retry_after_beyond_the_deadline_ends_at_once(ask, script):
    server = script(answer(429, retry_after="30"), OK)
    begin = time.monotonic()
    with pytest.raises(UnavailableError) as caught:
        ask(server.url, "spec", "m", timeout_s=2)
    assert time.monotonic() - begin < 1
    assert server.requests == 1 and caught.value.retry_after_s == 30


@pytest.mark.alone
def test_retries_stay_inside_the_deadline(ask, script):
    server = script(answer(503))
    begin = time.monotonic()
    with pytest.raises(RemoteError):
        ask(server.url, "spec", "m", timeout_s=0.5, options={"retries": 1000})
    assert time.monotonic() - begin <= 0.6
    assert 2 <= server.requests <= 7


@pytest.mark.alone
@pytest.mark.parametrize("slow", [stall, drip, drip_header])
def test_a_slow_server_meets_the_deadline(ask, script, slow):
    """G1 for answers that never end, or never begin."""
    server = script(slow)
    begin = time.monotonic()
    with pytest.raises(DeadlineError):
        ask(server.url, "spec", "m", timeout_s=0.2)
    assert 0.2 <= time.monotonic() - begin <= 0.4
    assert server.requests == 1


@pytest.mark.alone
def test_a_server_that_takes_no_connection_meets_the_deadline(ask):
    """The listen queue is full, so that connecting hangs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        try:
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(address)
            time.sleep(0.1)
            begin = time.monotonic()
            with pytest.raises(DeadlineError):
                ask(f"http://127.0.0.1:{address[1]}", "spec", "m", timeout_s=0.2)
            assert 0.2 <= time.monotonic() - begin <= 0.4
        finally:
            for sock in waiting:
                sock.close()


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_nothing_listens(ask, free_port, scheme):
    """Refused connections are tried again, capped, and the error says where nothing was."""
    port = free_port()
    begin = time.monotonic()
    with pytest.raises(UnreachableError) as caught:
        ask(f"{scheme}://127.0.0.1:{port}", "spec", "m", options={"retries": 2})
    assert time.monotonic() - begin < 2
    assert f"port {port}" in caught.value.why and "last of 3 tries" in caught.value.why


def test_a_server_that_comes_up_meanwhile_is_found(ask, free_port):
    port = free_port()

    def late() -> None:
        time.sleep(0.3)
        with socket.create_server(("127.0.0.1", port)) as listener:
            sock, _ = listener.accept()
            with sock:
                Script._read_request(sock)
                OK(sock)

    thread = threading.Thread(target=late)
    thread.start()
    assert ask(f"http://127.0.0.1:{port}", "spec", "m", options={"retries": 10}).name == "m"
    thread.join()


def test_an_idle_connection_that_the_server_closed_costs_no_retry(script):
    """The pool notices it before it sends anything."""

    def once(sock: socket.socket) -> None:
        OK(sock)
        sock.shutdown(socket.SHUT_RDWR)

    server = script(once)
    with Client(server.url, retries=0) as client:
        for _ in range(5):
            assert client.spec("m").name == "m"
            time.sleep(0.02)
    assert server.requests == 5


def test_a_refusal_that_comes_before_the_whole_body_was_taken_is_understood(ask):
    """A gateway may answer 413 early and close; its answer must not be lost in a broken pipe."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            for reaction in (OK, answer(413, b"too large", connection="close")):
                sock, _ = listener.accept()
                with sock:
                    sock.recv(1024)
                    reaction(sock)
                    sock.shutdown(socket.SHUT_WR)
                    sock.settimeout(5)
                    with contextlib.suppress(TimeoutError):  # a client that keeps its end open
                        while sock.recv(1 << 20):
                            pass

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        with pytest.raises(RequestError) as caught:
            ask(f"http://127.0.0.1:{listener.getsockname()[1]}", "infer", "m", x=np.zeros((2_000_000, 1), np.float32))
        assert caught.value.status == 413
        thread.join(5)


def test_the_key_is_sent_and_does_not_follow_a_redirect(ask, script):
    elsewhere = script(OK)
    server = script(answer(307, b"", location=elsewhere.url + "/v2/models/m"))
    with pytest.raises(RequestError) as caught:
        ask(server.url, "spec", "m", options={"token": "s3cret"})
    assert caught.value.status == 307 and elsewhere.requests == 0


@pytest.mark.alone
def test_readiness_is_asked_once(ask, script, free_port):
    server = script(answer(503), OK)
    assert ask(server.url, "ready") is False
    assert server.requests == 1
    begin = time.monotonic()
    assert ask(f"http://127.0.0.1:{free_port()}", "ready") is False
    assert time.monotonic() - begin < 0.5
