"""A page of this machine is read directly; what is no page is an OSError."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from modelport.server import loopback


@contextmanager
def answering(data: bytes) -> Iterator[str]:
    """A server that answers one request with these bytes."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve() -> None:
            with listener.accept()[0] as peer:
                peer.recv(65536)
                peer.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/metrics"
        thread.join(5)


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes") as url:
        with pytest.raises(urllib.error.URLError, match="refused"):
            urllib.request.urlopen(url, timeout=5)  # negative control: this one asks it
        assert loopback.get(url, timeout_s=5) == "yes"


@pytest.mark.parametrize(
    "data", [b"", b"nothing of the kind\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nyes"]
)
def test_what_is_no_page_is_an_os_error(data):
    with answering(data) as url, pytest.raises(OSError):
        loopback.get(url, timeout_s=5)


def test_an_error_page_is_an_os_error():
    with answering(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n") as url, pytest.raises(OSError, match="503"):
        loopback.get(url, timeout_s=5)
