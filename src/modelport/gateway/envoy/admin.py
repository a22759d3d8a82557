"""Envoy's administration, over its socket, which only this user reaches."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from pathlib import Path

from modelport import _process
from modelport.gateway import private

_ENDED_S = 5.0
_QUIET_S = 0.3  # without a request, until what drains may end
_LEFTOVER_S = 1.0  # for what an Envoy that nobody watches over is answering


class Admin:
    """The administration of the Envoy that listens on a socket.

    Args:
        path: The socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def ask(self, method: str, page: str) -> str:
        """One request.

        Raises:
            OSError: It does not answer.
        """
        connection = _Unix(self.path)
        try:
            connection.request(method, page)
            return connection.getresponse().read().decode("utf-8", "replace")
        except http.client.HTTPException as exc:
            raise OSError(f"{page}: {exc!r}") from exc
        finally:
            connection.close()

    def live(self) -> bool:
        """Whether it runs, and takes requests."""
        try:
            return self.ask("GET", "/ready").startswith("LIVE")
        except OSError:
            return False

    def active(self) -> int:
        """Requests that are being answered."""
        return self.stat("http.front.downstream_rq_active")

    def stat(self, name: str) -> int:
        """A figure; 0 for one that there is not."""
        text = self.ask("GET", f"/stats?filter=^{name.replace('.', '[.]')}$")
        return int(text.rpartition(":")[2].strip() or 0)

    def drain(self, timeout_s: float) -> None:
        """Take no new connection, and wait until nothing is asked any more; who has one may ask until then."""
        with contextlib.suppress(OSError):
            self.ask("POST", "/healthcheck/fail")  # answers tell their callers to close
            self.ask("POST", "/drain_listeners")
            end, quiet_since = time.monotonic() + timeout_s, time.monotonic()
            while time.monotonic() < end and time.monotonic() - quiet_since < _QUIET_S:
                if self.active():
                    quiet_since = time.monotonic()
                time.sleep(0.05)

    def end_leftover(self) -> bool:
        """End an Envoy that outlived whoever started it; what it is answering has a second. Says whether there was one.

        Its ports may be taken for a moment still.
        """
        if not self.path.exists():
            return False
        self.drain(_LEFTOVER_S)
        try:
            self.ask("POST", "/quitquitquit")
        except OSError:
            found = False  # a socket that nobody listens on
        else:
            found = True
            _process.wait_until(lambda: not self._answers(), timeout_s=_ENDED_S)
        self.path.unlink(missing_ok=True)
        return found

    def _answers(self) -> bool:
        try:
            self.ask("GET", "/ready")
        except OSError:
            return False
        return True


class _Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=5.0)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with private.socket_name(self._path) as name:
            self.sock.connect(name)
