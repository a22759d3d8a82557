"""The gateway beside the server: told of what changes, started again when it ends; captured pairs are received here."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from modelport.errors import ModelportError
from modelport.gateway import certificates
from modelport.gateway.capture.receiver import Counts, Receiver
from modelport.gateway.elsewhere import GatewayElsewhere
from modelport.gateway.envoy.folder import BOOTSTRAP
from modelport.gateway.gateway import Gateway
from modelport.gateway.settings import Upstream
from modelport.repository import events
from modelport.repository.events import Event
from modelport.repository.followed import Follower
from modelport.repository.layout import CONFIG_FILE
from modelport.server.handle import ServerHandle
from modelport.supervisor.backoff import Deaths
from modelport.supervisor.usage import Counting
from modelport.usage.answers import Told
from modelport.usage.counter import Statistics

TAKEN_S = 0.1  # until Envoy has taken files that were replaced
LOOK_S = 0.5  # between two looks at what may have changed
AGAIN_S = 30.0  # until what was refused is tried again, if nothing changes before
WATCHED = ("keys", "capture")  # folders of the gateway's own state that others write into
END_S = 20.0
STATISTICS_S = 2.0  # while it is waited for, nothing is counted
SLOWLY_S = 30.0  # between two starts of a gateway that does not start, or dies again and again


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What there is to tell of a gateway beside Envoy's own figures.

    Attributes:
        up: Whether its process lives.
        restarts: How often it was started again.
        quotas: Tenant to its quota of today, and what is left of it.
        captures: What became of the requests that were to be captured.
        expires_at: From when on callers refuse its certificate, seconds since 1970; None without TLS.
        usage_failing: Whether usage cannot be counted now.
        told: What callers were answered.
    """

    up: bool
    restarts: int = 0
    quotas: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    captures: Counts = field(default_factory=Counts)
    expires_at: float | None = None
    usage_failing: bool = False
    told: Told = field(default_factory=Told)


class Front:
    """Keeps a gateway running, and up to date.

    Args:
        gateway: The gateway, not started.
        emit: Takes events.
        servers: Gives the servers that it is for now; None while there are none.
        statistics: Gives Triton's statistics, for the tenants' compute time; None where nobody tells them.
    """

    def __init__(
        self,
        gateway: Gateway,
        emit: Callable[[Event], None],
        servers: Callable[[], tuple[Upstream, ...] | None],
        statistics: Statistics | None = None,
    ) -> None:
        self.gateway = gateway
        self._emit = emit
        self._servers = servers
        self._ended = threading.Event()
        self._seen: object = None
        self._trouble = ""
        self._deaths = Deaths()
        self._since = self._again_at = 0.0
        self._refused_until = math.inf
        self._died = False
        self._told: object = ()
        self._began: object = None
        self.restarts = 0
        self._receiver = Receiver(gateway.repository)
        self._counting = Counting(gateway.repository, emit, statistics)
        self._follower = Follower(gateway.repository)
        self._thread = threading.Thread(target=self._watch, name="modelport-gateway", daemon=True)

    def start(self) -> None:
        """Start the gateway, and watch it from now on.

        Raises:
            ModelportError: It does not start.
        """
        self._receiver.start()
        self._seen, looked = self._sees(), self._follower.look()
        self.gateway.start(self._servers() or ())
        self._follower.note(looked)
        self._since = time.monotonic()
        self._tell_start()
        self._counting.start()
        self._thread.start()

    def stop(self) -> None:
        """Let requests be answered, and end it."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(END_S)  # it may be starting Envoy, or asking it about a configuration
        self._follower.close()
        self.gateway.stop()
        self._counting.stop()
        self._receiver.stop()

    def figures(self) -> Figures:
        """For Prometheus. What cannot be read now is left out."""
        certificate = self.gateway.settings.certificate
        quotas: Mapping[str, tuple[int, int]] = {}
        expires_at = None
        with contextlib.suppress(ModelportError, OSError):
            quotas = self.gateway.quotas()
        with contextlib.suppress(ModelportError):
            expires_at = certificates.expires_at(certificate).timestamp() if certificate else None
        return Figures(
            up=self.gateway.running,
            restarts=self.restarts,
            quotas=quotas,
            captures=self._receiver.counts,
            expires_at=expires_at,
            usage_failing=self._counting.failing,
            told=self._counting.told(),
        )

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_S):
            try:
                self._look()
            except ModelportError as error:
                self._tell(f"{error.what}: {error.why}")
            except Exception as exc:
                self._tell(f"{type(exc).__name__}: {exc}")

    def _look(self) -> None:
        if isinstance(self.gateway, GatewayElsewhere):
            self._tell_of(self.gateway)
        elif not self.gateway.running:
            self._start_again()
            return
        if self._counting.may_put_aside():
            self.gateway.tend()
        seen = self._sees()
        if seen == self._seen and time.monotonic() < self._refused_until:
            return
        self._seen, self._refused_until = seen, time.monotonic() + AGAIN_S
        looked = self._follower.look()
        replaced = self.gateway.refresh(self._servers())
        self._trouble, self._refused_until = "", math.inf
        if replaced:
            time.sleep(TAKEN_S)
        self._follower.note(looked)
        if replaced:
            self._emit(events.event("gateway_changed", f"took in what has changed: {', '.join(replaced)}"))

    def _start_again(self) -> None:
        now = time.monotonic()
        if not self._died:
            lived_s = now - self._since
            self._died, self._again_at = True, now + self._wait_s(lived_s)
            text = f"the gateway ended {lived_s:.0f} s after its start"
            self._emit(events.event("gateway_died", text, level="error"))
        if now < self._again_at:
            return
        self._again_at = now + SLOWLY_S
        seen, looked = self._sees(), self._follower.look()
        self.gateway.start(self._servers())
        self._follower.note(looked)
        self._seen, self._since = seen, time.monotonic()
        self._died, self._trouble = False, ""
        self.restarts += 1
        self._tell_start()

    def _wait_s(self, lived_s: float) -> float:
        """The first new start comes at once, and after many deaths in a row still another one every now and then."""
        wait_s = self._deaths.died(lived_s)
        if wait_s is None:
            return SLOWLY_S
        return 0.0 if self._deaths.in_a_row == 1 else wait_s

    def _tell_of(self, gateway: GatewayElsewhere) -> None:
        """Of an Envoy that somebody else starts: whether it is there, and whether it has to be started anew."""
        began = gateway.began()
        found = (began, gateway.outdated)
        if found == self._told:
            return
        self._told = found
        if began is None:
            text = "Envoy, which somebody else starts, does not answer; its files are kept up to date"
            self._emit(events.event("gateway_unreachable", text, level="warning"))
        elif gateway.outdated:
            text = f"{gateway.folder / BOOTSTRAP} is another one than Envoy was started with: start it anew"
            self._emit(events.event("gateway_outdated", text, level="warning"))
        else:
            self.restarts += self._began not in (None, began)
            self._began = began
            text = f"Envoy, which somebody else started, serves {gateway.settings.url}"
            self._emit(events.event("gateway_started", text))

    def _tell_start(self) -> None:
        if isinstance(self.gateway, GatewayElsewhere):
            return
        text = f"process {self.gateway.pid} answers at {self.gateway.settings.url}"
        self._emit(events.event("gateway_started", text))

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._emit(events.event("gateway_refused", trouble, level="error"))
        self._trouble = trouble

    def _sees(self) -> object:
        """What changes with anything that the gateway has to know."""
        repository, folder = self.gateway.repository, self.gateway.folder
        today = self.gateway.today()
        configs = _times(sorted(repository.glob(f"*/{CONFIG_FILE}")))
        own = _times(sorted(path for name in WATCHED for path in (folder / name).glob("*.json")))
        versions = _times(sorted(path for path in repository.iterdir() if path.is_dir()))
        expires = self.gateway.changes_at
        began = self.gateway.began() if isinstance(self.gateway, GatewayElsewhere) else None
        return today, configs, own, versions, self._servers(), expires is not None and time.time() >= expires, began


def of(handle: ServerHandle | None) -> tuple[Upstream, ...] | None:
    """The embedded server as the gateway knows it."""
    if handle is None:
        return None
    http, grpc = urlsplit(handle.http_url), urlsplit(handle.grpc_url)
    return (Upstream(host=http.hostname or "", http_port=http.port or 0, grpc_port=grpc.port or 0),)


def statistics(handle: ServerHandle | None) -> list[dict[str, Any]]:
    """Triton's statistics for each loaded version; none while there is no server.

    Raises:
        ServerError: It does not tell them.
    """
    return [] if handle is None else handle.statistics(timeout_s=STATISTICS_S)


def _times(paths: list[Path]) -> tuple[tuple[str, int, int], ...]:
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((str(path), status.st_mtime_ns, status.st_ino))
    return tuple(found)
