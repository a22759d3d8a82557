"""Where a gateway listens, and whom an earlier one left there."""

from __future__ import annotations

import errno
import socket
from dataclasses import replace
from pathlib import Path

from modelport import _process
from modelport.errors import PortTakenError
from modelport.gateway import single
from modelport.gateway.envoy.admin import Admin
from modelport.gateway.envoy.metrics import ADMIN_SOCKET
from modelport.gateway.settings import Settings
from modelport.server import ports

FREED_S = 2.0  # an Envoy that ends answers no more, and has its ports for a moment


def clear(folder: Path, settings: Settings) -> None:
    """Before the servers are started: end an Envoy that outlived whoever started it, and see that the ports are free.

    Left alone it would keep a server busy that is to end, and a port that is taken would be told of when all is loaded.

    Args:
        folder: The gateway's.
        settings: How it is to be run.

    Raises:
        ServerError: Another gateway runs for the repository.
        PortTakenError: Something listens on a port.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with single.only_one(folder):
        freed(Admin(folder / ADMIN_SOCKET), settings)


def freed(admin: Admin, settings: Settings) -> Settings:
    """End an Envoy that was left, and give the settings with free ports where they say 0.

    Raises:
        PortTakenError: Something else listens on one.
    """
    if admin.end_leftover():
        _process.wait_until(lambda: _can_listen(settings), timeout_s=FREED_S)
    return listening(settings)


def listening(settings: Settings) -> Settings:
    """The same with free ports where they say 0.

    Raises:
        PortTakenError: Something listens on one.
    """
    port = _free(settings.address, settings.port, "gateway", "--gateway-port")
    if settings.metrics_port is None:
        return replace(settings, port=port)
    metrics = _free(settings.metrics_address, settings.metrics_port, "gateway's metrics", "--gateway-metrics-port")
    return replace(settings, port=port, metrics_port=metrics)


def _can_listen(settings: Settings) -> bool:
    try:
        listening(settings)
    except PortTakenError:
        return False
    return True


def _free(address: str, port: int, what: str, option: str) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as exc:
            who = f"; {ports.holder(port)} listens there" if exc.errno == errno.EADDRINUSE else ""
            raise PortTakenError(
                f"the {what} cannot listen on {address}:{port}",
                why=f"{exc.strerror or exc}{who}",
                fix=f"stop it, or choose another one with {option}" if who else f"choose another one with {option}",
                port=port,
            ) from exc
        return int(probe.getsockname()[1])
