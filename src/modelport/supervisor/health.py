"""The supervisor's own HTTP, on loopback unless told else: does it live, is the service ready; Prometheus's figures."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from modelport._version import __version__
from modelport.errors import PortTakenError
from modelport.server import ports

Answer = tuple[int, bytes]
REQUEST_S = 5.0  # for one to send its request
JSON, TEXT = "application/json", "text/plain; version=0.0.4; charset=utf-8"


def as_json(status: int, content: Mapping[str, Any]) -> Answer:
    """An answer with a JSON body."""
    return status, (json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n").encode()


class Health:
    """Answers `GET` on a port of its own, in threads of its own, as a context manager.

    Args:
        host: The address to listen on.
        port: 0 takes a free one.
        pages: Path to what answers it, given what follows the path (`/readyz/<model>`).

    Raises:
        PortTakenError: Something listens on the port.
    """

    def __init__(self, host: str, port: int, pages: Mapping[str, Callable[[str], Answer]]) -> None:
        ports.choose(host, {"health": port})  # says who listens there
        handler = type("Handler", (_Handler,), {"pages": dict(pages)})
        try:
            self._server = _Server((host, port), handler)
        except OSError as exc:
            raise PortTakenError(
                f"port {port} for health is taken", why=str(exc), fix="choose another one (0 takes any)", port=port
            ) from exc
        place = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104
        self.url = f"http://{place}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="modelport-health", daemon=True)

    def __enter__(self) -> Health:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    pages: Mapping[str, Callable[[str], Answer]] = {}
    timeout = REQUEST_S
    protocol_version = "HTTP/1.1"
    server_version = f"modelport/{__version__}"
    sys_version = ""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        page, _, rest = path.removeprefix("/").partition("/")
        answer = self.pages.get(page)
        if answer is None:
            known = sorted(f"/{name}" for name in self.pages)
            self._send(*as_json(404, {"error": f"there is no {path}", "pages": known}), JSON)
            return
        self._send(*answer(rest), TEXT if page == "metrics" else JSON)

    do_HEAD = do_GET

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Probes come every few seconds; nobody wants a line for each."""
