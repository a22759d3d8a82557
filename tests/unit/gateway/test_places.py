"""Before anything is started it is known whether the gateway can listen, and an earlier one is out of the way."""

from __future__ import annotations

import contextlib
import http.server
import os
import socket
import socketserver
import threading
from dataclasses import replace

import psutil
import pytest

from modelport.errors import PortTakenError, ServerError
from modelport.gateway import places, private, single
from modelport.gateway.envoy import admin
from modelport.gateway.envoy.metrics import ADMIN_SOCKET
from modelport.gateway.settings import Settings

FREE = Settings(port=0, metrics_port=0)


@contextlib.contextmanager
def leftover(folder):
    """What answers at the socket of an Envoy that somebody left: the pages that it is asked for, until it is ended."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            text = b"http.front.downstream_rq_active: 0\n"
            self.send_response(200)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET

        def log_message(self, *_):
            pass

        def address_string(self):
            return ""

    with private.socket_name(folder / ADMIN_SOCKET) as name, socketserver.UnixStreamServer(name, Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("field", ["port", "metrics_port"])
def test_a_port_that_is_taken_is_told_of_with_who_listens_there(tmp_path, field):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"cannot listen on 127.0.0.1:{port}") as caught:
            places.clear(tmp_path, replace(FREE, **{field: port}))
    assert f"{psutil.Process().name()} (process {os.getpid()}) listens there" in caught.value.why
    assert "--gateway-" in caught.value.fix and caught.value.port == port


def test_free_ports_are_chosen_where_any_will_do():
    found = places.listening(FREE)
    assert 0 not in {found.port, found.metrics_port} and found.port != found.metrics_port


def test_the_gateway_of_another_process_is_left_alone(tmp_path):
    with single.only_one(tmp_path), leftover(tmp_path) as asked:
        with pytest.raises(ServerError, match="runs for this repository already"):
            places.clear(tmp_path, FREE)
        assert asked == []


def test_one_that_was_left_takes_no_new_callers_answers_those_it_has_and_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(admin, "_ENDED_S", 0.1)  # this one does not end
    with leftover(tmp_path) as asked:
        places.clear(tmp_path, FREE)
    assert asked[:2] == ["/healthcheck/fail", "/drain_listeners"]
    assert "downstream_rq_active" in asked[2] and "/quitquitquit" in asked
    assert not (tmp_path / ADMIN_SOCKET).exists()


def test_a_socket_that_nobody_listens_on_is_removed(tmp_path):
    with private.socket_name(tmp_path / ADMIN_SOCKET) as name, socket.socket(socket.AF_UNIX) as one:
        one.bind(name)
    places.clear(tmp_path, FREE)
    assert not (tmp_path / ADMIN_SOCKET).exists()


def test_the_port_of_one_that_was_left_may_be_taken_for_a_moment(tmp_path, monkeypatch):
    monkeypatch.setattr(admin, "_ENDED_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as its, leftover(tmp_path):
        timer = threading.Timer(0.8, its.close)  # it is drained for 0.3 s before
        timer.start()
        places.clear(tmp_path, replace(FREE, port=its.getsockname()[1]))
        timer.join()
