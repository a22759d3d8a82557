"""Keep a server running: start it, make it known, and start it again when it dies, until it dies too often."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace

from modelport.errors import EnvironmentUnfitError, ModelportError, ServerDiedError, ServerError
from modelport.repository import events, journal
from modelport.repository.events import Event
from modelport.server import EmbeddedServer, connection
from modelport.server.handle import ServerHandle
from modelport.server.process_id import ProcessId
from modelport.server.remote import RemoteServer
from modelport.supervisor.backoff import Deaths
from modelport.supervisor.care import Care
from modelport.supervisor.link import Link
from modelport.supervisor.mend import taken_back
from modelport.supervisor.signals import Signals

TELL_S = 5.0  # until it is tried again to make a server known
CRASHES = 3  # in a row, after which ONNX models get processes of their own
STUCK_GRACE_S = 3.0  # for requests in flight, where a load hangs that only the server's end ends
LINES, LINE = 8, 200  # of the server's last words that are shown


class Keeper:
    """Starts and stops the server; everything here is done by the main thread.

    Args:
        server: The server, not started.
        link: Where it is told to the other threads.
        care: Is told of each start.
        emit: Takes events.
        health_url: The supervisor's own URL.
        deaths: When to start again.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        server: EmbeddedServer | RemoteServer,
        link: Link,
        care: Care,
        emit: Callable[[Event], None],
        *,
        health_url: str,
        deaths: Deaths | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._link = link
        self._care = care
        self._emit = emit
        self._health_url = health_url
        self._deaths = _deaths(server) if deaths is None else deaths
        self._clock = clock
        self._known: ServerHandle | None = None
        self._since = self._tell_at = 0.0
        self._hidden = False

    def start(self) -> None:
        """Start the server, and make it known to other commands.

        Raises:
            ModelportError: It does not start; nothing of it is left.
        """
        try:
            for note in journal.repair(self._server.repository):
                self._emit(taken_back(note))
        except ModelportError as error:  # it is tried again while the server runs
            self._emit(events.event("not_taken_back", f"{error.what}: {error.why}", level="error"))
        with contextlib.suppress(OSError):  # a new server loads what the files say
            for model in journal.to_load(self._server.repository):
                journal.loaded(self._server.repository, model)
        started = self._clock()
        self._server.start()
        try:
            supervisor = ProcessId.of()
            handle = replace(self._server.handle, supervisor=supervisor, health_url=self._health_url)
            self._make_known(handle)
        except BaseException:
            self._server.stop()
            raise
        loading = self._server.loading
        self._care.started(handle, {m: why for m, why in self._server.failed.items() if m not in loading})
        self._link.version = handle.version()
        self._link.handle, self._link.since, self._link.starts = handle, started, self._link.starts + 1
        self._since = self._clock()  # loading many models takes minutes, and is no time that it lived well
        seconds = round(self._since - started, 3)
        kind = "server_restarted" if self._link.restarts else "server_started"
        who = "the server, which somebody else started," if handle.remote else f"process {handle.server_pid}"
        text = f"{who} answers at {handle.http_url} and {handle.grpc_url}"
        self._emit(events.event(kind, text, seconds=seconds, pid=handle.server_pid))
        for model in sorted(loading):
            self._emit(events.event("still_loading", "the service goes on without it", model=model, level="warning"))

    def keep(self, signals: Signals, poll_s: float) -> None:
        """Return when a signal asks for the end; until then, start the server again when it dies.

        Raises:
            ServerDiedError: It dies again and again.
        """
        while not signals.stop.wait(poll_s):
            if not self._server.running:
                self._start_again(signals, self._how_it_died())
            elif self._care.hung():
                self._server.stop(grace_s=0.0)
                self._start_again(signals, _hung("the server answered no control call", "it hangs"))
            elif stuck := self._care.stuck():
                self._isolate(stuck)
                self._server.stop(grace_s=STUCK_GRACE_S)
                self._start_again(signals, _hung("the server was ended", stuck))
            elif self._link.handle is not None and self._known is None and self._clock() >= self._tell_at:
                self._make_known(self._link.handle)

    def stop(self, *, grace_s: float | None = None) -> None:
        """Let the server answer what it has accepted, and end it.

        Args:
            grace_s: Seconds that it has for that; the server's own when left out.
        """
        self._link.stopping = True
        self._link.handle = None
        if self._known is not None:
            connection.remove(self._server.state_dir, self._known)
        if grace_s is None:
            self._server.stop()
        else:
            self._server.stop(grace_s=grace_s)

    def _make_known(self, handle: ServerHandle) -> None:
        """Let other commands find the server. One that was started again serves also when the disk refuses that.

        Raises:
            EnvironmentUnfitError: The disk refused, at the first start.
        """
        self._known, self._tell_at = None, self._clock() + TELL_S
        try:
            connection.write(self._server.state_dir, handle)
        except EnvironmentUnfitError as error:
            if not self._link.starts:
                raise
            text = f"commands do not find the server, which serves: {error.what}: {error.why}"
            if not self._hidden:
                self._emit(events.event("not_made_known", text, level="error"))
            self._hidden = True
        else:
            self._known, self._hidden = handle, False

    def _start_again(self, signals: Signals, reason: ModelportError) -> None:
        lived_s = self._clock() - self._since
        self._link.handle = None
        self._care.ended()
        text = f"{reason.what}, {lived_s:.0f} s after its start"
        kind = "server_unreachable" if isinstance(self._server, RemoteServer) else "server_died"
        self._emit(events.event(kind, text, level="error", lived_s=round(lived_s, 1)))
        while True:
            wait_s = self._deaths.died(lived_s)
            if wait_s is None:
                raise self._gives_up(reason)
            crashed = isinstance(reason, ServerDiedError) and reason.crashed
            if crashed and self._deaths.in_a_row >= CRASHES:
                self._isolate(f"the server crashed {self._deaths.in_a_row} times, each time soon after its start")
            if signals.stop.wait(wait_s):
                return
            try:
                with signals.interrupting():
                    self.start()
                return
            except KeyboardInterrupt:
                return
            except ModelportError as error:
                reason, lived_s = error, 0.0
                self._emit(events.event("restart_failed", f"{error.what}: {error.why}", level="error"))

    def _isolate(self, why: str) -> None:
        """Give ONNX models processes of their own from the next start on: what crashes one takes no other with it."""
        if not self._server.isolated:
            self._server.isolated = True
            text = f"{why}: ONNX models get processes of their own, as with --isolated, until 'modelport serve' ends"
            self._emit(events.event("isolated", text, level="error"))

    def _how_it_died(self) -> ModelportError:
        try:
            _ = self._server.handle
        except ServerError as error:
            return error
        return ServerError(
            "the server ended", why="its process is gone", fix="look into its log; 'modelport status' names it"
        )

    def _gives_up(self, reason: ModelportError) -> ServerDiedError:
        times = self._deaths.in_a_row
        text = f"the server died {times} times, each time soon after its start: it is not started again"
        self._emit(events.event("server_given_up", text, level="error", deaths=times))
        log = self._server.log
        return ServerDiedError(
            text,
            why=f"the last time: {reason.what}" + _last_words(getattr(reason, "log_tail", "") or reason.why),
            fix=f"correct what its log says ({log}), then start 'modelport serve' again",
            returncode=getattr(reason, "returncode", 0),
            log_tail=getattr(reason, "log_tail", ""),
        )


def _deaths(server: EmbeddedServer | RemoteServer) -> Deaths:
    """One that somebody else starts is waited for, however often it goes away."""
    return Deaths(most_s=2.0, limit=1 << 30) if isinstance(server, RemoteServer) else Deaths()


def _last_words(text: str) -> str:
    """The end of what was said, without the tables that Triton prints."""
    lines = [line[:LINE] for line in text.splitlines() if line.strip() and line[0] not in "+|"]
    return "".join(f"\n    {line}" for line in lines[-LINES:])


def _hung(what: str, why: str) -> ServerError:
    return ServerError(what, why=why, fix="look into its log; 'modelport status' names it")
