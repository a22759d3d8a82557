"""The servers that modelport is measured against. Each module has the same names, which `Peer` describes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from peers import bentoml, fastapi, litserve, mlserver, modelport_server, ray_serve, torchserve
from peers.job import Job, Serving


class Peer(Protocol):
    """A server.

    Attributes:
        TITLE: Its name for people; what it is called in results begins with it.
        PACKAGES: The packages whose versions matter.
        SETUPS: Ways to start it.
        CHOOSE: Whether only the one that answers most is measured; else all are.
        SETTINGS: What is set -> the page that recommends it.
    """

    TITLE: str
    PACKAGES: tuple[str, ...]
    SETUPS: tuple[str, ...]
    CHOOSE: bool
    SETTINGS: Mapping[str, str]

    def start(self, job: Job, setup: str) -> AbstractContextManager[Serving]:
        """Serve a model until the context ends."""


OURS = "modelport"
PEERS: Mapping[str, Peer] = {
    OURS: modelport_server,
    "fastapi": fastapi,
    "torchserve": torchserve,
    "mlserver": mlserver,
    "bentoml": bentoml,
    "litserve": litserve,
    "ray": ray_serve,
}
