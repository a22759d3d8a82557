"""A small HTTP service to measure."""

from __future__ import annotations

import http.server
import threading

import pytest


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers a POST to /echo with its body, /fail with 500, /triton with a header before the body."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(500 if self.path == "/fail" else 200)
        if self.path == "/triton":
            self.send_header("Inference-Header-Content-Length", "7")
            body = b'{"a":1}' + body
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.server.last = (dict(self.headers), body)

    def log_message(self, *args):
        pass


@pytest.fixture
def echo():
    """The running service; `.url` is its address, `.last` the last request's headers and answer."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
