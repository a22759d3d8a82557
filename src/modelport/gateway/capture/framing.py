"""The little of HTTP/1.1 that the gate's calls need: `POST` with a `Content-Length`, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

HEAD_MOST = 16 << 10
_END = b"\r\n\r\n"


class BadRequestError(Exception):
    """It is not what the gate sends; the connection is of no more use."""


class Framing:
    """Cuts what comes on a connection into requests.

    Args:
        body_most: The largest body in bytes; of a larger one nothing is kept.
    """

    def __init__(self, body_most: int) -> None:
        self._most = body_most
        self._buffer = bytearray()
        self._head: Mapping[str, str] | None = None
        self._size = 0  # of the body
        self._skip = 0  # bytes of a body that is too large

    def feed(self, data: bytes) -> Iterator[tuple[Mapping[str, str], bytes | None]]:
        """Headers, with lower-case names, and body of each request that is whole; None for a body that is too large.

        Raises:
            BadRequestError: It is no such request.
        """
        self._buffer += data
        while True:
            if self._skip:
                gone = min(self._skip, len(self._buffer))
                del self._buffer[:gone]
                self._skip -= gone
                if self._skip:
                    return
            if self._head is None and not self._begin():
                return
            assert self._head is not None
            if self._size > self._most:
                self._skip = self._size
                yield self._end(), None
            elif len(self._buffer) < self._size:
                return
            else:
                body = bytes(memoryview(self._buffer)[: self._size])
                del self._buffer[: self._size]
                yield self._end(), body

    def _end(self) -> Mapping[str, str]:
        head, self._head = self._head or {}, None
        return head

    def _begin(self) -> bool:
        """Read a head; False while it is not whole."""
        at = self._buffer.find(_END, 0, HEAD_MOST)
        if at < 0:
            if len(self._buffer) >= HEAD_MOST:
                raise BadRequestError
            return False
        first, *lines = bytes(self._buffer[:at]).decode("latin-1").split("\r\n")
        head = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = head.get("content-length", "")
        if not first.startswith("POST ") or not size.isdecimal() or len(size) > 12 or "transfer-encoding" in head:
            raise BadRequestError
        del self._buffer[: at + len(_END)]
        self._head, self._size = head, int(size)
        return True
