"""HTTP for the sync client: connections that one thread uses at a time, each with a deadline for the whole exchange.

The standard library's sockets are used in place of tritonclient's HTTP client, which is built on gevent: that must not
be shared by threads, leaves two file descriptors behind with every thread that ends, bounds each single read in place
of the whole answer, and drops the Retry-After header.
"""

from __future__ import annotations

import http.client
import io
import queue
import socket
import ssl
import threading
from typing import Any, cast

from modelport.client import _errors
from modelport.client._calls import Answer, Call
from modelport.client._connection import Target, tls_context
from modelport.client._http import HttpAnswer, HttpRequest, answer_from, request_for
from modelport.client._policy import Deadline


class HttpTransport:
    """Carries calls over HTTP/1.1. Safe for threads: a connection leaves the pool while a thread uses it.

    Args:
        target: The server.
        concurrency: Most calls at once.
    """

    def __init__(self, target: Target, concurrency: int) -> None:
        self._target = target
        self._concurrency = concurrency
        self._places = threading.Semaphore(concurrency)
        self._tls = tls_context(target)
        self._idle: queue.LifoQueue[_Connection] = queue.LifoQueue()
        self._closed = False

    def call(self, call: Call, deadline: Deadline) -> Answer:
        """Send one call and wait for its answer.

        Raises:
            ModelportError: There is no good answer by the deadline.
        """
        if self._closed:
            raise _errors.closed(self._target)
        if not self._places.acquire(timeout=deadline.remaining_s()):
            raise _errors.no_place(self._target, call, deadline.timeout_s, self._concurrency)
        try:
            return answer_from(self._target, call, self._exchange(self._connected(call, deadline), call, deadline))
        finally:
            self._places.release()

    def _connected(self, call: Call, deadline: Deadline) -> _Connection:
        try:
            return self._take() or _connect(self._target, self._tls, deadline)
        except TimeoutError as error:
            raise _errors.late(self._target, call, deadline.timeout_s) from error
        except OSError as error:
            raise _errors.unreachable(self._target, error) from error

    def _exchange(self, connection: _Connection, call: Call, deadline: Deadline) -> HttpAnswer:
        reusable = False
        try:
            answer, reusable = connection.exchange(request_for(self._target, call), deadline)
            return answer
        except TimeoutError as error:
            raise _errors.late(self._target, call, deadline.timeout_s) from error
        except (OSError, http.client.IncompleteRead) as error:  # RemoteDisconnected is an OSError
            raise _errors.broken(self._target, call, error) from error
        except (http.client.HTTPException, ValueError) as error:
            raise _errors.unreadable(self._target, call, f"not HTTP ({type(error).__name__})") from error
        finally:
            if reusable and not self._closed:
                self._idle.put(connection)
            else:
                connection.close()

    def _take(self) -> _Connection | None:
        """An open connection that nobody uses, or None."""
        while True:
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                return None
            if connection.is_usable():
                return connection
            connection.close()

    def close(self) -> None:
        """Close what is not in use; the rest is closed as its call ends."""
        self._closed = True
        while (connection := self._take()) is not None:
            connection.close()


class _Connection:
    """One TCP or TLS connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def exchange(self, request: HttpRequest, deadline: Deadline) -> tuple[HttpAnswer, bool]:
        """Send a request and read its answer; whether the connection can be used again."""
        lines = [f"{request.method} {request.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        lines += [f"content-length: {len(request.body)}", "", ""]
        head = "\r\n".join(lines).encode("ascii")
        try:
            self._sock.settimeout(_left(deadline))
            self._sock.sendall(head + request.body)
        except (BrokenPipeError, ConnectionResetError):
            # A server may refuse a large body early, answer, and close. Its answer says more than the broken pipe.
            return self._read(request.method, deadline)[0], False
        return self._read(request.method, deadline)

    def _read(self, method: str, deadline: Deadline) -> tuple[HttpAnswer, bool]:
        source = _Source(self._sock, deadline)
        with http.client.HTTPResponse(cast(socket.socket, source), method=method) as response:
            response.begin()
            body = response.read()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return HttpAnswer(status=response.status, headers=headers, body=body), not response.will_close

    def is_usable(self) -> bool:
        """Whether the server has left an idle connection open, and sent nothing more on it."""
        try:
            self._sock.settimeout(0)
            socket.socket.recv(self._sock, 1, socket.MSG_PEEK)  # under TLS too: it looks, and takes nothing
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Close it."""
        self._sock.close()


class _Source(io.RawIOBase):
    """What `HTTPResponse` reads from: every read is bounded by what the deadline leaves."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def makefile(self, *_: Any) -> io.BufferedReader:
        """The file that `HTTPResponse` asks a socket for."""
        return io.BufferedReader(self, 1 << 16)

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what is there."""
        self._sock.settimeout(_left(self._deadline))
        return self._sock.recv_into(buffer)


def _connect(target: Target, tls: ssl.SSLContext | None, deadline: Deadline) -> _Connection:
    """Open a connection: the addresses of the host are tried in turn.

    Raises:
        OSError: None of them takes it; TimeoutError when the deadline is the reason.
    """
    addresses = _resolve(target, deadline)
    failure: OSError = OSError("the host has no address")
    for tried, (family, kind, protocol, _, address) in enumerate(addresses):
        sock: socket.socket | None = None
        try:
            sock = socket.socket(family, kind, protocol)  # fails for IPv6 where that is switched off
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(_left(deadline) / (len(addresses) - tried))
            sock.connect(address)
            if tls is not None:
                sock.settimeout(_left(deadline))
                sock = tls.wrap_socket(sock, server_hostname=target.host)
            return _Connection(sock)
        except OSError as error:
            if sock is not None:
                sock.close()
            failure = error
    raise failure


def _resolve(target: Target, deadline: Deadline) -> list[Any]:
    """The host's addresses. The system's resolver knows no timeout, so that it is asked in a thread of its own."""
    try:
        return socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:  # a name, not an address
        pass
    found: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found.put(socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM))
        except OSError as error:
            found.put(error)

    threading.Thread(target=ask, daemon=True, name="modelport-resolver").start()
    try:
        result = found.get(timeout=_left(deadline))
    except queue.Empty:
        raise TimeoutError(f"the name {target.host!r} was not resolved in time") from None
    if isinstance(result, OSError):
        raise result
    return result


def _left(deadline: Deadline) -> float:
    """Seconds for the next step; a socket's timeout of 0 would mean something else."""
    left = deadline.remaining_s()
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    return left
