"""`Gateway`: one Envoy over one repository: started, told what has changed, and stopped without losing a request."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from modelport import _process
from modelport.errors import ModelportError, ServerDiedError
from modelport.gateway import access_log, development_certificate, gate_data, golden, places, quota, single
from modelport.gateway.documents import Documents
from modelport.gateway.envoy import program
from modelport.gateway.envoy.admin import Admin
from modelport.gateway.envoy.bootstrap import Facts
from modelport.gateway.envoy.filters import NAMES
from modelport.gateway.envoy.folder import Folder
from modelport.gateway.envoy.listener import ACCESS_LOG
from modelport.gateway.envoy.metrics import ADMIN_SOCKET
from modelport.gateway.gate_models import Models
from modelport.gateway.golden import Golden
from modelport.gateway.keys import keyring, signing
from modelport.gateway.keys.keyring import Limits
from modelport.gateway.settings import Settings, Upstream
from modelport.repository.layout import state_folder

FOLDER = "gateway"
LOG = "envoy.log"
START_S = 15.0
TAKEN_S = 1.0  # until Envoy has taken in what was replaced
DRAIN_S = 10.0
FLUSH_MS = 10  # after which the access log is with the kernel: what a killed Envoy forgets
LOGGED_S = 0.2  # until that has happened for certain, on a busy machine too
LOG_BYTES = 64 << 20  # of the access log, until it is put aside
GOLDEN_ELEMENTS = 4096  # of what health checks send


class Gateway:
    """An Envoy over a repository.

    Args:
        repository: The model repository: models, routes, keys.
        settings: How it is run.
        folder: For its files and sockets; the repository's own when left out.
        today: Gives the day, in UTC, as `YYYY-MM-DD`.
        log_bytes: How large the access log grows until it is put aside.

    Attributes:
        settings: The same, with the port that was taken where it said 0.
        log: What Envoy printed.
        admin: Envoy's administration.
        today: See above.
        changes_at: When a signing key ceases to be accepted, seconds since 1970; None where none does.
    """

    def __init__(
        self,
        repository: Path,
        settings: Settings,
        *,
        folder: Path | None = None,
        today: Callable[[], str] = quota.today,
        log_bytes: int = LOG_BYTES,
    ) -> None:
        self.repository = repository
        self.settings = settings
        self.folder = state_folder(repository) / FOLDER if folder is None else folder
        self.log = self.folder / LOG
        self.admin = Admin(self.folder / ADMIN_SOCKET)
        self.today = today
        self.changes_at: float | None = None
        self._held = contextlib.ExitStack()
        self._child: _process.Child | None = None
        self._files = Folder(self.folder, program.find())
        self._documents = Documents(repository, self.folder)
        self._secret = gate_data.secret()
        self._models = Models()
        self._used = quota.Used(self.folder, self.folder / ACCESS_LOG)
        self._log_bytes = log_bytes
        self._nobody = signing.nobodys()
        self._quota_of: object = None
        self._left = quota.Left(round=0, tenants={})
        self._turnstiles: dict[str, int] = {}
        self._golden: Golden | None = None

    def start(self, upstreams: Sequence[Upstream] | None = None) -> Gateway:
        """Check the configuration, start Envoy, and wait until it takes requests.

        Where it ran before, and the configuration cannot be used now, it starts with the last one that could.

        Args:
            upstreams: The servers; None for the same as before.

        Raises:
            ServerError: Another gateway runs for the repository, Envoy refuses the configuration, or does not start.
            PortTakenError: Something listens on the port.
        """
        if self._child is None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._held.enter_context(single.only_one(self.folder))
        try:
            servers = self.settings.upstreams if upstreams is None else tuple(upstreams)
            self.settings = replace(places.freed(self.admin, self.settings), upstreams=servers)
            self._turnstiles = {}
            self._write_or_keep()
            self._child = _process.Child(self._command(), log=self.log, cwd=self.folder)
            if not _process.wait_until(lambda: not self._lives() or self.admin.live(), timeout_s=START_S):
                self._child.stop(grace_s=0.0)
            self.require_running()
        except BaseException:
            self.stop(drain_s=0.0)
            raise
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
        if self.settings.ca is not None:  # our own: it is renewed in time, for there is a refresh each day
            development_certificate.ensure_for(self.repository, self.settings.address)
        before = self._reloads()
        try:
            replaced = self._write()
        except ModelportError:
            self._quota_of = None  # what is left has to be counted anew
            raise
        _process.wait_until(lambda: self._follows(replaced, before), timeout_s=TAKEN_S)
        return replaced

    def _reloads(self) -> dict[str, int]:
        """How often Envoy took each filter's configuration anew; nothing where it does not answer."""
        try:
            return {
                name: self.admin.stat(f"extension_config_discovery.http_filter.{name}.config_reload") for name in NAMES
            }
        except OSError:
            return {}

    def _follows(self, replaced: Sequence[str], before: dict[str, int]) -> bool:
        """Whether Envoy has taken in the filters that were replaced, or is not there to do so."""
        now = self._reloads()
        return not now or all(now[name] > before.get(name, 0) for name in NAMES if name in replaced)

    def quotas(self) -> dict[str, tuple[int, int]]:
        """Tenant to its quota of today, and what is left of it, in requests; only tenants that have one."""
        daily = quota.daily(keyring.read(self.repository).tenants)
        left = quota.left(daily, self._used.look(self.today())) if daily else {}
        return {name: (most, left[name]) for name, most in daily.items()}

    def tend(self) -> None:
        """Put an access log aside that has grown large; the one that was put aside before is removed."""
        log = self.folder / ACCESS_LOG
        try:
            large = log.stat().st_size > self._log_bytes
        except FileNotFoundError:
            large = False
        else:
            if not large:
                return
        if large:
            self._used.look(self.today())
            log.replace(access_log.aside(log))
        with contextlib.suppress(OSError):
            self.admin.ask("POST", "/reopen_logs")

    def stop(self, *, drain_s: float = DRAIN_S) -> None:
        """Take no new connection, let what was accepted be answered, and end Envoy."""
        child, self._child = self._child, None
        with self._held:
            if child is None:
                return
            if child.returncode() is None and drain_s > 0:
                self.admin.drain(drain_s)
            child.stop(grace_s=5.0, first=signal.SIGTERM)
            self.admin.path.unlink(missing_ok=True)

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

    def _command(self) -> list[str]:
        return [
            str(program.find()),
            *("-c", str(self._files.bootstrap.absolute()), "--concurrency", str(self.settings.workers)),
            *("--file-flush-interval-msec", str(FLUSH_MS), "-l", "warning", "--disable-hot-restart"),
        ]

    def _write(self) -> tuple[str, ...]:
        facts = self._facts()
        replaced = self._files.write(facts)
        self._documents.write(facts.gate.models)  # last: a key that is revoked does not wait for them
        return replaced

    def _write_or_keep(self) -> None:
        try:
            self._write()
        except ModelportError:
            self._quota_of = None
            if not self._files.usable:
                raise

    def _facts(self) -> Facts:
        ring = keyring.read(self.repository)
        self.changes_at = ring.changes_at
        self._turnstiles.update((name, one.concurrency) for name, one in ring.tenants.items() if one.concurrency)
        return Facts(
            jwks=ring.jwks if ring.jwks["keys"] else {"keys": [self._nobody]},
            tenants=ring.tenants,
            left=self._what_is_left(ring.tenants),
            turnstiles=dict(self._turnstiles),  # also those that the gate, replaced a moment later, needs no more
            golden=self._asked(),
            gate=gate_data.read(self.repository, self.settings, self._models),
            secret=self._secret,
            settings=self.settings,
        )

    def _what_is_left(self, tenants: Mapping[str, Limits]) -> quota.Left:
        """Counted anew only when the day or a quota changes: Envoy's own count is exact in between."""
        today, daily = self.today(), quota.daily(tenants)
        if self._quota_of == (today, daily) and self._lives():
            return self._left
        if self._lives() and daily:
            time.sleep(LOGGED_S)
        used = self._used.look(today)
        self._left = quota.Left(round=self._left.round + 1, tenants=quota.left(daily, used))
        self._quota_of = (today, daily)
        return self._left

    def _asked(self) -> Golden | None:
        """What health checks ask: the same as long as its version is loaded, for each change starts them anew."""
        if len(self.settings.upstreams) < 2:
            return None
        if self._golden is None or not golden.holds(self.repository, self._golden):
            self._golden = golden.smallest(self.repository, most=GOLDEN_ELEMENTS)
        return self._golden

    def _lives(self) -> bool:
        return self._child is not None and self._child.returncode() is None
