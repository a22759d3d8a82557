"""What the supervisor answers over HTTP: whether it lives, whether the service is ready, and all that it knows."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from modelport.supervisor import health
from modelport.supervisor.care import Care
from modelport.supervisor.health import Answer
from modelport.supervisor.link import Link
from modelport.supervisor.probes import Prober
from modelport.supervisor.readiness import Readiness

if TYPE_CHECKING:
    from modelport.supervisor.gateway import Front

STUCK_S = 30.0  # without a look, the supervisor is not healthy


class Pages:
    """The pages of one supervisor, from what it knows.

    Args:
        link: The server.
        care: What is seen of the models.
        prober: Golden requests.
        clock: The supervisor's clock.
        watched: Whether there is to be a watcher for what is copied in.

    Attributes:
        front: The gateway; None until it has started, and where there is none.
        watcher_lives: Whether that watcher lives; None where there is to be none.
        looked_at: When the models were looked at last.
        trouble: Why the last look failed; empty where it did not.
    """

    def __init__(self, link: Link, care: Care, prober: Prober, clock: Callable[[], float], *, watched: bool) -> None:
        self.front: Front | None = None
        self.watcher_lives: Callable[[], bool] | None = (lambda: False) if watched else None
        self.looked_at = self._began = clock()
        self.trouble = ""
        self._link, self._care, self._prober, self._clock = link, care, prober, clock

    def by_name(self, metrics: Callable[[], bytes]) -> Mapping[str, Callable[[str], Answer]]:
        """Each page by its path; `metrics` gives the text of Prometheus's."""
        return {
            "healthz": self._healthz,
            "readyz": self._readyz,
            "metrics": lambda _: (200, metrics()),
            "status": self._status,
        }

    def ready(self) -> Readiness:
        """What the server is, but for a gateway that is down: then no caller gets through."""
        found, front = self._care.ready(), self.front
        if front is None or front.gateway.running or "" in found.missing:
            return found
        return replace(found, ready=False, missing={**found.missing, "": "the gateway is down"})

    def _healthz(self, _: str) -> Answer:
        handle = self._link.handle
        server = handle is not None and handle.running()
        looking = not self._link.starts or self._clock() - self.looked_at < STUCK_S
        content: dict[str, object] = {"supervisor": looking, "server": server, "restarts": self._link.restarts}
        if self.watcher_lives is not None:
            content["watcher"] = self.watcher_lives()
        if self.trouble:
            content["trouble"] = self.trouble
        return health.as_json(200 if looking and server and content.get("watcher", True) else 503, content)

    def _readyz(self, model: str) -> Answer:
        """All models, or `/readyz/<model>`."""
        found = self.ready()
        whole = found.missing.get("")
        if not model:
            missing = dict(found.missing)
            return health.as_json(
                200 if found.ready else 503, {"ready": found.ready, "missing": missing, "models": found.models}
            )
        if whole is None and model not in found.models:
            return health.as_json(404, {"ready": False, "missing": {model: "no version of it is to be served"}})
        reason = whole or found.missing.get(model)
        return health.as_json(
            503 if reason else 200, {"ready": not reason, "missing": {model: reason} if reason else {}}
        )

    def _status(self, _: str) -> Answer:
        """All of it, for `modelport status`."""
        now, link = self._clock(), self._link
        found = self.ready()
        content = {
            "pid": os.getpid(),
            "now": now,
            "uptime_s": now - self._began,
            "server_uptime_s": now - link.since if link.handle else None,
            "restarts": link.restarts,
            "ready": found.ready,
            "missing": found.missing,
            "models": self._models(found),
            "gateway": self._gateway(),
        }
        return health.as_json(200, content)

    def _models(self, found: Readiness) -> dict[str, object]:
        results = self._prober.results()
        return {
            model: {
                **asdict(view),
                "serving": view.serving,
                "ready": None if model not in found.models else model not in found.missing,
                "reason": found.missing.get(model, ""),
                "stubs": {v: self._care.stubs.alive(model, v) for v in view.loaded if not view.inside},
                "probes": {v: asdict(results[model, v]) for v in view.loaded if (model, v) in results},
            }
            for model, view in self._care.views.items()
        }

    def _gateway(self) -> dict[str, object] | None:
        if self.front is None:
            return None
        gateway = self.front.gateway
        settings = gateway.settings
        return {
            "url": settings.url,
            "pid": gateway.pid,
            "up": gateway.running,
            "metrics_url": settings.metrics_url,
        }
