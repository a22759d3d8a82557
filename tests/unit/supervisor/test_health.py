"""The supervisor's own pages."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request

import pytest

from modelport.errors import PortTakenError
from modelport.supervisor import health
from modelport.supervisor.health import Health

HOST = "127.0.0.1"


@pytest.fixture
def pages():
    return {
        "readyz": lambda rest: health.as_json(503 if rest == "bad" else 200, {"asked": rest}),
        "metrics": lambda _: (200, b"up 1\n"),
    }


@pytest.fixture
def own(pages):
    with Health(HOST, 0, pages) as running:
        yield running


def get(url, method="GET"):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


def test_pages_answer_with_their_status_and_kind(own):
    assert get(f"{own.url}/metrics") == (200, "text/plain; version=0.0.4; charset=utf-8", b"up 1\n")
    status, kind, body = get(f"{own.url}/readyz/net?verbose=1")
    assert (status, kind, json.loads(body)) == (200, "application/json", {"asked": "net"})
    assert get(f"{own.url}/readyz/bad")[0] == 503


def test_head_has_no_body_and_other_pages_and_methods_are_refused(own):
    assert get(f"{own.url}/metrics", "HEAD")[::2] == (200, b"")
    status, _, body = get(f"{own.url}/nothing")
    assert status == 404 and json.loads(body)["pages"] == ["/metrics", "/readyz"]
    assert get(f"{own.url}/metrics", "POST")[0] == 501


def test_a_client_that_says_nothing_does_not_keep_others_waiting(own):
    with socket.create_connection((HOST, int(own.url.rpartition(":")[2]))):
        assert get(f"{own.url}/metrics")[0] == 200


def test_a_taken_port_is_named_with_its_holder(own, pages):
    port = int(own.url.rpartition(":")[2])
    with pytest.raises(PortTakenError, match=f"port {port} for health is taken") as caught:
        Health(HOST, port, pages)
    assert caught.value.port == port and "process" in caught.value.why


def test_the_port_is_free_afterwards(pages):
    with Health(HOST, 0, pages) as first:
        port = int(first.url.rpartition(":")[2])
    with Health(HOST, port, pages):
        pass
