"""`Supervisor`: a served repository that is watched over, from the start of the server to its end.

    main thread         signals; starts the server, and starts it again when it dies     (keeper)
    modelport-care      looks twice a second: processes, files, index; decides           (care)
    modelport-probe-N   golden requests                                                  (probes)
    modelport-work-N    loading and restoring, one thing at a time for each model        (jobs)
    modelport-health    /healthz /readyz /metrics /status                                (health)

Threads for probes and work are made when they are needed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelport.gateway.settings import Settings
from modelport.repository import drops, events
from modelport.repository.layout import state_folder
from modelport.server import EmbeddedServer, checks
from modelport.server.remote import RemoteServer
from modelport.supervisor.announce import Announcer
from modelport.supervisor.care import Care
from modelport.supervisor.health import Health
from modelport.supervisor.jobs import Jobs
from modelport.supervisor.keeper import Keeper
from modelport.supervisor.link import Link
from modelport.supervisor.metrics import Known, Metrics
from modelport.supervisor.pages import Pages
from modelport.supervisor.probes import Prober
from modelport.supervisor.signals import Signals
from modelport.supervisor.single import only_one
from modelport.supervisor.wishes import Wishes

if TYPE_CHECKING:
    from modelport.supervisor.gateway import Figures

HOST = "127.0.0.1"
POLL_S = 0.2  # between two looks at the server's process
LOOK_S = 0.5  # between two looks at everything else
LONGEST_S = 2.0  # the same where there are so many models that a look costs much
END_S = 2.0  # for the threads to end


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a repository is supervised.

    Attributes:
        health_port: Of `/healthz`, `/readyz`, `/metrics`; 0 takes a free one.
        probe_interval_s: Seconds between two golden requests to a version that serves.
        probe_deadline_s: Seconds that a golden answer may take.
        watch: Whether version folders that are copied in are picked up.
        settle_s: Seconds without a change, until such a folder counts as complete.
        as_json: Events as JSON lines.
        gateway: How the gateway beside the server is run; None for none.
        gateway_elsewhere: Whether somebody else starts its Envoy, from the files that are written here.
        health_address: Where `/healthz`, `/readyz`, `/metrics` are answered. No key is asked for there.
    """

    health_port: int = 8003
    probe_interval_s: float = 5.0
    probe_deadline_s: float = 5.0
    watch: bool = True
    settle_s: float = 10.0
    as_json: bool = False
    gateway: Settings | None = None
    gateway_elsewhere: bool = False
    health_address: str = HOST


class Supervisor:
    """Serves a repository and watches over it.

    Args:
        server: The server, not started.
        options: How.
        only: The models that are to be served; None for all.
        write: Called with one line for each event.

    Attributes:
        server: The server.
        health_url: Such as `http://127.0.0.1:8003`; empty before `run`.
        gateway_url: Such as `https://127.0.0.1:8443`; empty where no gateway runs.
    """

    def __init__(
        self,
        server: EmbeddedServer | RemoteServer,
        options: Options,
        *,
        only: Collection[str] | None = None,
        write: Callable[[str], None],
    ) -> None:
        self.server = server
        self.health_url = self.gateway_url = ""
        self._options = options
        self._clock = time.monotonic
        self._ended = threading.Event()
        repository = server.repository
        self._announce = Announcer(repository, write, as_json=options.as_json)
        self._link = Link()
        self._jobs = Jobs()
        self._prober = Prober(
            repository, interval_s=options.probe_interval_s, deadline_s=options.probe_deadline_s, clock=self._clock
        )
        wishes = Wishes(repository, only, watched=options.watch)
        self._care = Care(repository, self._link, wishes, self._prober, self._jobs, self._announce, self._clock)
        self._pages = Pages(self._link, self._care, self._prober, self._clock, watched=options.watch)
        known = Known(
            link=self._link,
            care=self._care,
            prober=self._prober,
            events=self._announce.counts,
            drops=lambda: drops.everything(repository),
            ready=self._pages.ready,
            gateway=self._gateway_known,
            clock=self._clock,
        )
        self._metrics = Metrics(known)

    def run(self, started: Callable[[Supervisor], None]) -> None:
        """Serve until Ctrl-C, SIGTERM or SIGHUP, then let accepted requests be answered, and stop everything.

        Args:
            started: Called once when the server answers.

        Raises:
            ServerError: The repository is served already, or the server does not start.
            ServerDiedError: The server dies again and again.
            PortTakenError: A port is in use.
            KeyboardInterrupt: A signal came while it started; it is stopped.
        """
        checks.check_repository(self.server.repository)
        with (
            self._announce.server_log(),
            only_one(self.server.repository, self.server.state_dir),
            Health(
                self._options.health_address, self._options.health_port, self._pages.by_name(self._metrics.text)
            ) as own,
            Signals() as signals,
        ):
            self.health_url = own.url
            keeper = Keeper(self.server, self._link, self._care, self._announce, health_url=own.url, clock=self._clock)
            try:
                with signals.interrupting():
                    self._clear_way()
                    keeper.start()
                with self._gateway(signals), self._watching():
                    started(self)
                    keeper.keep(signals, POLL_S)
                    self._announce(events.event("stopping", "accepted requests are answered"))
            finally:
                self._stop(keeper)

    def _clear_way(self) -> None:
        """End a gateway that outlived its supervisor: it would go on to feed the server that did so too."""
        settings = self._options.gateway
        if settings is None or self._options.gateway_elsewhere:
            return
        from modelport.gateway import gateway, places

        places.clear(state_folder(self.server.repository) / gateway.FOLDER, settings)

    @contextlib.contextmanager
    def _gateway(self, signals: Signals) -> Iterator[None]:
        """The gateway, where there is to be one; it ends before the server, so that what it let in is answered."""
        if self._options.gateway is None:
            yield
            return
        from modelport.gateway.elsewhere import GatewayElsewhere
        from modelport.gateway.gateway import Gateway
        from modelport.supervisor import gateway

        kind = GatewayElsewhere if self._options.gateway_elsewhere else Gateway
        running = kind(self.server.repository, self._options.gateway)
        link = self._link
        front = gateway.Front(
            running, self._announce, lambda: gateway.of(link.handle), lambda: gateway.statistics(link.handle)
        )
        try:
            with signals.interrupting():
                front.start()
            self.gateway_url, self._pages.front = running.settings.url, front
            yield
        finally:
            front.stop()

    def _gateway_known(self) -> Figures | None:
        return self._pages.front.figures() if self._pages.front else None

    @contextlib.contextmanager
    def _watching(self) -> Any:
        """The threads that look, and the watcher for what is copied in."""
        self._pages.looked_at = self._clock()
        thread = threading.Thread(target=self._looks, name="modelport-care", daemon=True)
        watcher = self._drops()
        try:
            thread.start()
            if watcher is not None:
                watcher.start()
                self._pages.watcher_lives = watcher.alive
            yield
        finally:
            self._link.stopping = True
            self._ended.set()
            if watcher is not None:
                watcher.stop(timeout_s=END_S)
            thread.join(END_S)

    def _drops(self) -> Any:
        if not self._options.watch:
            return None
        from modelport.supervisor.drops import Drops

        return Drops(self.server.repository, self._announce, settle_s=self._options.settle_s)

    def _stop(self, keeper: Keeper) -> None:
        self._link.stopping = True
        self._ended.set()
        self._jobs.stop()
        self._prober.stop()
        try:
            keeper.stop()
        except KeyboardInterrupt:  # the second signal: what the first call was waiting for has been killed
            keeper.stop(grace_s=0.0)
        if self._link.starts:
            self._announce(events.event("stopped", "the server has ended"))
        self._announce.close()

    def _looks(self) -> None:
        took_s = 0.0
        while not self._ended.wait(max(LOOK_S, min(100 * took_s, LONGEST_S))):  # 1 % of a core, however many models
            began = time.thread_time()
            self._look()
            took_s = time.thread_time() - began

    def _look(self) -> None:
        """Look once. A look that fails is told, and does not end the watch."""
        try:
            self._care.look()
            self._announce.follow()
        except Exception as exc:
            trouble = f"{type(exc).__name__}: {exc}"
            if trouble != self._pages.trouble:
                self._announce(events.event("supervisor_failed", trouble, level="error"))
            self._pages.trouble = trouble
        else:
            self._pages.trouble, self._pages.looked_at = "", self._clock()
