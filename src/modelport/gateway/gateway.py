"""`Gateway`: one Envoy over one repository: started, told what has changed, and stopped without losing a request."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import os
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from modelport import _process
from modelport.errors import PortTakenError, ServerDiedError, ServerError
from modelport.gateway import gate_data, quota
from modelport.gateway.envoy import program
from modelport.gateway.envoy.bootstrap import ADMIN_SOCKET, Facts
from modelport.gateway.envoy.folder import Folder
from modelport.gateway.envoy.listener import ACCESS_LOG
from modelport.gateway.keys import keyring, signing
from modelport.gateway.settings import Settings, Upstream
from modelport.repository.layout import state_folder

FOLDER = "gateway"
LOG = "envoy.log"
START_S = 15.0
DRAIN_S = 10.0
FLUSH_MS = 250  # after which the access log is on its way to the disk


class Gateway:
    """An Envoy over a repository.

    Args:
        repository: The model repository: models, routes, keys.
        settings: How it is run.

    Attributes:
        settings: The same, with the port that was taken where it said 0.
        log: What Envoy printed.
        changes_at: When a signing key ceases to be accepted, seconds since 1970; None where none does.
    """

    def __init__(self, repository: Path, settings: Settings) -> None:
        self.repository = repository
        self.settings = settings
        self.folder = state_folder(repository) / FOLDER
        self.log = self.folder / LOG
        self._child: _process.Child | None = None
        self._files = Folder(self.folder, program.find())
        self._secret = gate_data.secret()
        self._used = quota.Used(self.folder, self.folder / ACCESS_LOG)
        self._nobody = signing.nobodys()
        self._quota_of: tuple[str, object] = ("", None)
        self._left: dict[str, int] = {}
        self.changes_at: float | None = None

    def start(self, upstreams: Sequence[Upstream] | None = None) -> Gateway:
        """Check the configuration, start Envoy, and wait until it takes requests.

        Args:
            upstreams: The servers; None for the same as before.

        Raises:
            ServerError: Envoy refuses the configuration, or does not start.
            PortTakenError: Something listens on the port.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        servers = self.settings.upstreams if upstreams is None else tuple(upstreams)
        self.settings = replace(self.settings, port=_free(self.settings), upstreams=servers)
        self._files.write(self._facts())
        with contextlib.suppress(FileNotFoundError):
            (self.folder / ADMIN_SOCKET).unlink()
        command = [
            str(program.find()),
            *("-c", str(self._files.bootstrap), "--concurrency", str(self.settings.workers)),
            *("--file-flush-interval-msec", str(FLUSH_MS), "-l", "warning", "--disable-hot-restart"),
        ]
        self._child = _process.Child(command, log=self.log)
        if (
            not _process.wait_until(lambda: self._lives() is False or self._live(), timeout_s=START_S)
            or not self._live()
        ):
            reason = self._child.log_tail(5)
            self.stop()
            raise ServerError(
                "the gateway does not start", why=reason or "it does not answer", fix=f"look into {self.log}"
            )
        return self

    @property
    def running(self) -> bool:
        """Whether Envoy runs."""
        return self._lives()

    @property
    def pid(self) -> int:
        """Envoy's process; 0 where none was started."""
        return self._child.pid if self._child else 0

    def refresh(self, upstreams: Sequence[Upstream] | None = None) -> tuple[str, ...]:
        """Take in what has changed: models, routes, keys, limits, servers. Gives the names of what was replaced.

        Args:
            upstreams: The servers; None for the same as before.

        Raises:
            ServerError: Envoy refuses it; the one before stays.
        """
        if upstreams is not None:
            self.settings = replace(self.settings, upstreams=tuple(upstreams))
        return self._files.write(self._facts())

    def stop(self, *, drain_s: float = DRAIN_S) -> None:
        """Take no new connection, let what was accepted be answered, and end Envoy."""
        child, self._child = self._child, None
        if child is None:
            return
        if child.returncode() is None and drain_s > 0:
            with contextlib.suppress(OSError):
                self.admin("POST", "/healthcheck/fail")
                self.admin("POST", "/drain_listeners?graceful&skip_exit")
                _process.wait_until(lambda: self.active() == 0, timeout_s=drain_s, interval_s=0.1)
        child.stop(grace_s=5.0, first=signal.SIGTERM)
        with contextlib.suppress(FileNotFoundError):
            (self.folder / ADMIN_SOCKET).unlink()

    def require_running(self) -> None:
        """Check that Envoy runs.

        Raises:
            ServerDiedError: It has ended.
        """
        child = self._child
        if child is None or child.returncode() is None:
            return
        raise ServerDiedError(
            f"the gateway ended with code {child.returncode()}",
            why=child.log_tail(5) or "it printed nothing",
            fix=f"look into {self.log}",
            returncode=child.returncode() or 0,
            log_tail=child.log_tail(),
        )

    def active(self) -> int:
        """Requests that are being answered."""
        text = self.admin("GET", "/stats?filter=^http.front.downstream_rq_active$")
        return int(text.rpartition(":")[2].strip() or 0)

    def admin(self, method: str, path: str) -> str:
        """Ask Envoy's administration, over its socket in the gateway's folder.

        Raises:
            OSError: It does not answer.
        """
        connection = _Unix(self.folder / ADMIN_SOCKET)
        try:
            connection.request(method, path)
            return connection.getresponse().read().decode("utf-8", "replace")
        except http.client.HTTPException as exc:
            raise OSError(f"{path}: {exc!r}") from exc
        finally:
            connection.close()

    def _facts(self) -> Facts:
        ring = keyring.read(self.repository)
        self.changes_at = ring.changes_at
        return Facts(
            jwks=ring.jwks if ring.jwks["keys"] else {"keys": [self._nobody]},
            tenants=ring.tenants,
            left=self._what_is_left(ring.tenants),
            gate=gate_data.read(self.repository, self.settings),
            secret=self._secret,
            settings=self.settings,
        )

    def _what_is_left(self, tenants: object) -> dict[str, int]:
        """Counted anew only when the day or the limits change: Envoy's own count is exact in between."""
        today = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
        if self._quota_of != (today, tenants) or not self._lives():
            if self._lives():
                with contextlib.suppress(OSError):
                    self.admin("POST", "/reopen_logs")
                time.sleep(2 * FLUSH_MS / 1000)
            self._left = quota.left(tenants, self._used.look(today))  # type: ignore[arg-type]
            self._quota_of = (today, tenants)
        return self._left

    def _lives(self) -> bool:
        return self._child is not None and self._child.returncode() is None

    def _live(self) -> bool:
        try:
            return self.admin("GET", "/ready").startswith("LIVE")
        except OSError:
            return False


class _Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=5.0)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))


def _free(settings: Settings) -> int:
    """The port, or a free one for 0.

    Raises:
        PortTakenError: Something listens on it.
    """
    family = socket.AF_INET6 if ":" in settings.address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.address, settings.port))
        except OSError as exc:
            raise PortTakenError(
                f"the gateway cannot listen on {settings.address}:{settings.port}",
                why=exc.strerror or str(exc),
                fix="choose another one with --gateway-port",
            ) from exc
        return int(probe.getsockname()[1])
