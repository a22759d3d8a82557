"""Ports for the embedded server: choose free ones, and say who holds a taken one."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping

import psutil

from modelport.errors import PortTakenError, UsageError


def loopback(host: str) -> str:
    """`host` as an IPv4 loopback address.

    Raises:
        UsageError: It is any other address. The embedded server has known vulnerabilities and is never exposed.
    """
    word = "127.0.0.1" if host == "localhost" else host
    try:
        if ipaddress.IPv4Address(word).is_loopback:
            return word
    except ValueError:
        pass
    raise UsageError(
        f"the embedded server cannot listen on {host!r}",
        why="it must not be reachable from other machines: its release has published vulnerabilities",
        fix="leave the address at 127.0.0.1 and put the gateway in front of it",
    )


def choose(host: str, wanted: Mapping[str, int], *, before: Mapping[str, int] | None = None) -> dict[str, int]:
    """Replace each 0 in `wanted` by a free port and check that the others are free.

    Args:
        host: Loopback address.
        wanted: Port by purpose, such as `{"HTTP": 8000}`; 0 for any free one.
        before: What was chosen before; where any port will do, it is chosen again if it is free.

    Raises:
        UsageError: A number is no port, or one is wanted twice.
        PortTakenError: Something listens on one of them; all of them are named.
    """
    fixed = [port for port in wanted.values() if port]
    for purpose, port in wanted.items():
        if not 0 <= port <= 65535 or fixed.count(port) > 1:
            raise UsageError(
                f"port {port} cannot be used for {purpose}",
                why="ports are whole numbers from 0 to 65535, and each purpose needs its own",
                fix="choose another number, or 0 for any free port",
            )
    check_free(host, {purpose: port for purpose, port in wanted.items() if port})
    again = {purpose: port for purpose, port in (before or {}).items() if port and is_free(host, port)}
    wanted = {purpose: port or again.get(purpose, 0) for purpose, port in wanted.items()}
    sockets = [socket.socket() for port in wanted.values() if not port]
    try:
        for sock in sockets:
            sock.bind((host, 0))
        found = iter([int(sock.getsockname()[1]) for sock in sockets])
    finally:
        for sock in sockets:
            sock.close()
    return {purpose: port or next(found) for purpose, port in wanted.items()}


def check_free(host: str, ports: Mapping[str, int]) -> None:
    """Check that nothing listens on the ports.

    Raises:
        PortTakenError: Something does; the message names every taken port and, where it can be told, its holder.
    """
    taken = {purpose: port for purpose, port in ports.items() if not is_free(host, port)}
    if not taken:
        return
    raise PortTakenError(
        "; ".join(f"port {port} for {purpose} is taken" for purpose, port in taken.items()),
        why="; ".join(f"{holder(port)} listens on port {port}" for port in taken.values()),
        fix="stop it, or choose other ports (0 takes any free one)",
        port=next(iter(taken.values())),
    )


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
            sock.listen(1)
        except OSError:
            return False
    return True


def answers(host: str, port: int) -> bool:
    """Whether something accepts connections on the port."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def holder(port: int) -> str:
    """Who listens on the port, such as `nginx (process 42)`; `another process` where that cannot be told."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:
        return "another process"
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            if not connection.pid:
                continue
            try:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
            except psutil.Error:
                continue
    return "another process"
