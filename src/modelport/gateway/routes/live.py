"""The running service, as a rollout works on it: routes in the record, the access log, promotion and rollback."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelport.errors import ModelportError, ServerError, UnreachableError
from modelport.gateway import private
from modelport.gateway.envoy.listener import ACCESS_LOG
from modelport.gateway.envoy.metrics import ADMIN_SOCKET
from modelport.gateway.routes import change, replay, state
from modelport.gateway.routes.calls import Calls
from modelport.gateway.routes.replay import Pair
from modelport.gateway.routes.rollout import Replay
from modelport.gateway.routes.state import Rollout
from modelport.gateway.routes.watch import NOTHING, Counts
from modelport.lifecycle import change as lifecycle
from modelport.lifecycle import served
from modelport.repository import events, followed, record
from modelport.repository.layout import config_path, version_folder
from modelport.repository.route import WHOLE, Route, Share, resolved
from modelport.repository.versions import serving_version
from modelport.server import connection
from modelport.server.handle import ServerHandle

LOST_S = 30.0  # the server may be away so long before it counts as ended
Report = Callable[[str], None]


@dataclass
class Live:
    """A model in a running service; a `World`.

    Attributes:
        repository: The model repository.
        rollout: The canary.
        report: Called with one line at each step.
        lost_s: Seconds for which the server may be away.
        set: The route that this set last.
        server: The server with which the step began.
        calls: What became of the model's calls since the first step.
    """

    repository: Path
    rollout: Rollout
    report: Report
    lost_s: float = LOST_S
    set: Route | None = None
    server: ServerHandle | None = None
    calls: Calls | None = None

    def share(self, percent: float) -> None:
        """Give the canary this share of the calls."""
        self.server = None
        self._route(percent)
        self.report(f"{percent:g} % to version {self.rollout.canary}")

    def counts(self) -> Counts:
        """What both versions did; why the canary or this rollout cannot go on, where that is so."""
        if self.calls is None:
            self.calls = Calls(private.folder(self.repository, ACCESS_LOG), self.rollout.model)
        found, passing = Counts(changed=self._changed()), False
        until = time.monotonic() + self.lost_s
        while not found.changed or passing:
            found, passing = self._look()
            if not passing or time.monotonic() > until:
                break
            time.sleep(min(1.0, self.lost_s / 10))
        did = self.calls.read()
        return replace(
            found, canary=did.get(self.rollout.canary, NOTHING), stable=did.get(self.rollout.stable, NOTHING)
        )

    def replay(self) -> Replay:
        """The golden inputs of both versions, and what was captured, asked of both; nothing where nobody answers."""
        rollout, handle = self.rollout, connection.find(self.repository)
        if handle is None:
            return Replay()
        self.report(f"asking versions {rollout.stable} and {rollout.canary} the same")
        canary = served.read(version_folder(self.repository, rollout.model, rollout.canary), compare_files=False)
        pair = Pair(model=rollout.model, canary=canary, stable=rollout.stable)
        try:
            return replay.replay(self.repository, handle.http_url, pair, self.report)
        except UnreachableError:  # why, the next look tells
            return Replay()

    def seconds(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)

    def promote(self) -> None:
        """Let the canary serve, proved once more; the route is then gone."""
        lifecycle.promote(self.rollout.model, self.rollout.canary, repository=self.repository, report=self.report)
        self._put(Route())

    def take_back(self) -> None:
        """Give all calls to stable; then take the canary out, where it is what calls without a route would get."""
        self._route(0.0)
        rollout = self.rollout
        serving = serving_version(self.repository, rollout.model)
        try:
            if serving == rollout.canary:
                lifecycle.rollback(rollout.model, rollout.stable, repository=self.repository, report=self.report)
                serving = rollout.stable
        except ModelportError as exc:
            self.report(f"version {rollout.canary} stays loaded: {exc.what}; the route keeps calls from it")
            return
        if serving == rollout.stable:
            self._put(Route())

    def keep(self, rollout: Rollout | None) -> None:
        """Remember how far this is."""
        if rollout is None:
            state.remove(self.repository, self.rollout.model)
        else:
            state.write(self.repository, rollout)

    def tell(self, entry: dict[str, Any]) -> None:
        """Add to the history; what began or ended becomes an event as well."""
        state.tell(self.repository, self.rollout.model, {"at": events.now(), **entry})
        if entry["event"] == "step":
            return
        kind, why = f"rollout_{entry['event']}", entry.get("why", "")
        text = f"{entry['share']:g} % of the calls{f': {why}' if why else ''}"
        level = "warning" if entry["event"] == "taken_back" else "info"
        happened = events.event(kind, text, model=self.rollout.model, version=self.rollout.canary, level=level)
        events.append(self.repository, happened)

    def _route(self, percent: float) -> None:
        """Give the canary so much, and stable the rest; what else the route says stays."""
        parts = ((self.rollout.stable_target, WHOLE - percent), (self.rollout.canary_target, percent))
        shares = tuple(Share(target=target, percent=part) for target, part in parts if part > 0)
        before = self._record().route
        shadow = "" if before.shadow in (self.rollout.canary_target, self.rollout.stable_target) else before.shadow
        route = replace(before, shares=shares, shadow=shadow)
        self._put(route)

    def _put(self, route: Route) -> None:
        """Set the route; done when the gateway follows."""
        self.set = change.put(self.repository, self.rollout.model, route)
        followed.wait(self.repository, self.rollout.model)

    def _changed(self) -> str:
        """What somebody else changed since this set the route."""
        known, rollout = self._record(), self.rollout
        if self.set is not None and known.route != self.set:
            return f"the route is another one: {known.route.words()}"
        meant = {rollout.canary_target: rollout.canary, rollout.stable_target: rollout.stable}
        other = [target for target, version in meant.items() if resolved(target, known.aliases) != version]
        return f"alias {', '.join(other)} points at another version" if other else ""

    def _look(self) -> tuple[Counts, bool]:
        """What is wrong, if anything; and whether it may be right again in a moment."""
        model, canary, stable = self.rollout.model, self.rollout.canary, self.rollout.stable
        try:
            handle = connection.find(self.repository)
            if handle is None:
                return Counts(broken=f"the server was away while version {canary} took calls"), True
            if self.server is not None and self.server.server != handle.server:
                return Counts(broken=f"the server ended while version {canary} took calls"), False
            self.server = handle
            ready = handle.ready_versions(model)
        except ServerError as exc:
            return Counts(broken=f"{exc.what} while version {canary} took calls"), True
        if canary not in ready:
            return Counts(broken=f"version {canary} does not answer any more"), False
        if stable not in ready:
            return Counts(changed=f"version {stable} is not loaded any more"), True
        return Counts(), False

    def _record(self) -> record.Record:
        return record.read(config_path(self.repository, self.rollout.model))


def require_gateway(repository: Path) -> None:
    """Check that a gateway runs, and a server.

    Raises:
        ServerError: There is none, so that nobody would follow the route.
    """
    path = private.folder(repository, ADMIN_SOCKET)
    try:
        with socket.socket(socket.AF_UNIX) as sock, private.socket_name(path) as name:
            sock.connect(name)
        running = connection.find(repository) is not None
    except OSError:
        running = False
    if not running:
        raise ServerError(
            f"no gateway runs for {repository}, or no server beside it",
            why="calls follow a route only where a gateway leads them, and a canary is judged by what it logs of them",
            fix="start it with 'modelport serve --gateway', and try again",
        )
