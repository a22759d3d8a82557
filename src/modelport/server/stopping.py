"""Stop a server: ask it to end, close the connections it would wait for, and end what is left of it.

After SIGTERM Triton waits until every HTTP connection is gone, up to its exit timeout, also for those that only wait
for another request. The kernel tells for each whether the last bytes went in (a request is being answered) or out.
Those where they went out last are shut down through a copy of the server's socket.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import time

import psutil

from modelport._process import Child

# Triton never finishes unloading a model whose stub died. When only such stubs are left, waiting helps nobody.
DEAD_STUBS_S = 1.5

# A connection of which the kernel's times do not tell whether it is idle counts as busy for so long.
UNSURE_S = 10.0

_PIDFD_GETFD = 438  # the same number on every architecture
# Offsets in Linux's struct tcp_info: milliseconds since the last data went out, came in, or was acknowledged by the
# client; and the numbers of segments with data.
_SENT, _RECEIVED, _ACKNOWLEDGED, _SEGMENTS_IN, _SEGMENTS_OUT = 44, 52, 56, 152, 156


def terminate(child: Child, port: int, grace_s: float) -> None:
    """Ask the server to end, and wait until it has or `grace_s` has passed.

    Args:
        child: The server's process.
        port: Its HTTP port.
        grace_s: Seconds that accepted requests have to finish.
    """
    deadline = time.monotonic() + grace_s
    dead_since = float("inf")
    if child.returncode() is None:
        os.kill(child.pid, signal.SIGTERM)
    while child.wait(0.1) is None and time.monotonic() < deadline:
        close_idle(child.pid, port)
        dead_since = min(dead_since, time.monotonic()) if _only_dead_stubs(child.pid) else float("inf")
        if time.monotonic() - dead_since > DEAD_STUBS_S:
            return


def end_session(session: int) -> None:
    """Kill what is left of a server's session: stubs of a server that died by itself."""
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and os.getsid(process.pid) == session:
                process.kill()
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue


def close_idle(pid: int, port: int) -> int:
    """Shut down the connections to `port` on which the server in process `pid` answers nothing.

    Returns:
        How many were shut down; 0 where the kernel does not let us.
    """
    try:
        found = [
            connection.fd
            for connection in psutil.Process(pid).net_connections(kind="tcp")
            if connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == port
        ]
        handle = os.pidfd_open(pid)
    except (psutil.Error, OSError):
        return 0
    try:
        return sum(_close_if_idle(handle, number) for number in found)
    finally:
        os.close(handle)


def _only_dead_stubs(pid: int) -> bool:
    try:
        states = [stub.status() for stub in psutil.Process(pid).children()]
    except psutil.Error:
        return False
    return bool(states) and all(state == psutil.STATUS_ZOMBIE for state in states)


def _close_if_idle(handle: int, number: int) -> bool:
    copy = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, handle, number, 0)
    if copy < 0:
        return False
    with socket.socket(fileno=copy) as connection:
        try:
            idle = _idle(connection)
            if idle:
                connection.shutdown(socket.SHUT_RDWR)
            return idle
        except OSError:
            return False


def _idle(connection: socket.socket) -> bool:
    """Whether the last request on a connection was answered; the kernel counts time in steps of some milliseconds."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    if len(info) < _SEGMENTS_OUT + 4:
        return False
    since_sent, since_received, since_acknowledged, segments_in, segments_out = (
        struct.unpack_from("I", info, at)[0] for at in (_SENT, _RECEIVED, _ACKNOWLEDGED, _SEGMENTS_IN, _SEGMENTS_OUT)
    )
    if segments_in == 0:
        return True
    if segments_out == 0 or since_sent > since_received:
        return False
    if since_sent < since_received or since_acknowledged < since_received:
        return True
    # Answer and request within one step of the clock, in this order or the other.
    return bool(segments_in == segments_out == 1 or since_received > UNSURE_S * 1000)
