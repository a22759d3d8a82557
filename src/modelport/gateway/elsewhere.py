"""`GatewayElsewhere`: the files of an Envoy that somebody else starts, such as the container of `docker-compose.yml`.

Envoy finds them at the same path, has the gateway's folder as its working folder, where its sockets are, and is
started with `bootstrap.json`. It follows what is replaced as one of our own does; it is neither started nor ended here,
so that it goes on while nobody is here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from modelport.errors import UsageError
from modelport.gateway import gate_data, private, quota, single
from modelport.gateway.gateway import Gateway
from modelport.gateway.settings import Settings, Upstream

SECRET_FILE = "pass"  # noqa: S105 - what the gate puts on requests; it stays, for a running Envoy knows it


class GatewayElsewhere(Gateway):
    """The gateway of a repository, where Envoy is somebody else's.

    Args:
        repository: The model repository.
        settings: How it is run; with a fixed port.
        today: Gives the day, in UTC, as `YYYY-MM-DD`.

    Attributes:
        outdated: Whether Envoy runs with a `bootstrap.json` that has been replaced, and is to be started anew.

    Raises:
        UsageError: The settings leave a port open.
    """

    def __init__(self, repository: Path, settings: Settings, *, today: Callable[[], str] = quota.today) -> None:
        super().__init__(repository, settings, today=today)
        self.outdated = False
        self._seen: object = None
        if settings.port == 0 or settings.metrics_port == 0:
            raise UsageError(
                "a gateway that somebody else starts has a fixed port",
                why="0 takes a free one here, and it listens elsewhere",
                fix="name its ports",
            )

    def start(self, upstreams: Sequence[Upstream] | None = None) -> Gateway:
        """Check the configuration and write it, whether or not Envoy runs.

        Raises:
            ServerError: Somebody else writes it, or Envoy refuses it and there was none before.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._held.enter_context(single.only_one(self.folder))
        try:
            self._secret = _kept(self.folder / SECRET_FILE)
            servers = self.settings.upstreams if upstreams is None else tuple(upstreams)
            self.settings = replace(self.settings, upstreams=servers)
            before = _content(self._files.bootstrap)
            self._write_or_keep()
            self.outdated = bool(before) and before != _content(self._files.bootstrap) and self.running
            self._seen = self.began()
        except BaseException:
            self.stop()
            raise
        return self

    def began(self) -> object:
        """Another value after each start of Envoy, which makes its socket anew; None while it does not run."""
        try:
            status = self.admin.path.stat()
        except OSError:
            return None
        return (status.st_ino, status.st_ctime_ns) if self.running else None

    def refresh(self, upstreams: Sequence[Upstream] | None = None) -> tuple[str, ...]:
        """As with an Envoy of our own. One that ended or was started anew gets what is left of each tenant's day."""
        began = self.began()
        if began != self._seen:
            self._seen, self._quota_of, self.outdated = began, None, False
        return super().refresh(upstreams)

    def stop(self, *, drain_s: float = 0.0) -> None:
        """Leave Envoy alone; it serves on.

        Args:
            drain_s: Of no use here.
        """
        self._held.close()

    def _lives(self) -> bool:
        return self.admin.live()


def _kept(path: Path) -> str:
    if not _content(path):
        private.write(path, gate_data.secret().encode())
    return _content(path)


def _content(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return path.read_text(encoding="utf-8")
    return ""
