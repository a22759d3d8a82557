"""`modelport top` outlives a service that is away for a while, and says so when nothing ever was there."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from modelport.commands.top import top
from modelport.errors import ServerError
from modelport.watching.values import View


class Page(BaseHTTPRequestHandler):
    """One model, with ten more requests at each look."""

    looks = 0

    def do_GET(self):
        Page.looks += 10
        text = f'nv_inference_request_success{{model="net",version="1"}} {Page.looks}\n'.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def page(port=0):
    with ThreadingHTTPServer(("127.0.0.1", port), Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_service_that_is_away_is_told_and_followed_again():
    with page() as port:
        seen = top(urls=[f"http://127.0.0.1:{port}"], wait=lambda: True)
        first = next(seen)
        assert isinstance(first, View) and first.models[0].work.requests_per_s > 0
    away = next(seen)
    assert isinstance(away, ServerError) and str(port) in away.what
    with page(port):
        assert isinstance(next(seen), View)


def test_a_page_beside_triton_that_does_not_answer_is_named(free_port):
    with page() as port:
        beside = f"http://127.0.0.1:{free_port()}/metrics"
        found = next(top(urls=[f"http://127.0.0.1:{port}/metrics", beside], wait=lambda: True))
    assert isinstance(found, View) and list(found.away) == [beside]


def test_it_ends_when_asked_to():
    with page() as port:
        assert list(top(urls=[f"http://127.0.0.1:{port}"], wait=lambda: False)) == []


def test_where_nothing_ever_was_it_is_an_error(free_port):
    with pytest.raises(ServerError, match="no metrics of Triton"):
        next(top(urls=[f"http://127.0.0.1:{free_port()}"], wait=lambda: True))
