"""Load at a fixed rate, whether the server keeps up or not.

`wrk` and other closed loops slow down with the server: each client waits for its answer. Callers who do not know of
each other don't, and that is what overload is. Here a request is sent when its time has come, on a connection that is
free or a new one, and each keeps its own times.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from modelport.bench.requests import HEADER_LENGTH, Request

LATE = 0  # instead of a status: no answer while somebody waited for it
BROKEN = -1  # instead of a status: the connection failed


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What became of one request.

    Attributes:
        sent_s: When it was sent, in seconds since the start.
        took_s: Seconds until the whole answer, or the failure, was there.
        status: HTTP status; `LATE` or `BROKEN` without an answer.
        body: The answer; behind the JSON header where there is one.
    """

    sent_s: float
    took_s: float
    status: int
    body: bytes


def drive(
    base_url: str, request: Request, *, rate_per_s: float, seconds: float, patience_s: float = 30.0
) -> list[Reply]:
    """Send `request` at a rate, and wait for all answers.

    Args:
        base_url: Such as `http://127.0.0.1:8000`.
        request: What to send.
        rate_per_s: Requests per second, at equal distances.
        seconds: How long.
        patience_s: Seconds that each request waits for its answer.

    Returns:
        One reply for each request, in the order of sending.
    """
    return asyncio.run(_Load(base_url, request, patience_s).run(rate_per_s, seconds))


def longest(replies: Sequence[Reply], status: int) -> float:
    """The longest time, in seconds, after which this status came; 0 where it never did."""
    return max((reply.took_s for reply in replies if reply.status == status), default=0.0)


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class _Load:
    base_url: str
    request: Request
    patience_s: float
    free: list[Connection] = field(default_factory=list)
    start: float = 0.0

    async def run(self, rate_per_s: float, seconds: float) -> list[Reply]:
        content = to_bytes(self.base_url, self.request)
        self.start = time.monotonic()
        tasks = []
        for number in range(round(rate_per_s * seconds)):
            wait_s = self.start + number / rate_per_s - time.monotonic()
            await asyncio.sleep(max(0.0, wait_s))
            tasks.append(asyncio.create_task(self._one(content)))
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for _, writer in self.free:
                writer.close()

    async def _one(self, content: bytes) -> Reply:
        sent = time.monotonic()
        try:
            status, body = await asyncio.wait_for(self._ask(content), self.patience_s)
        except asyncio.TimeoutError:  # before OSError: from Python 3.11 on it is one
            status, body = LATE, b""
        except (OSError, EOFError, ValueError) as exc:
            status, body = BROKEN, str(exc).encode()
        return Reply(sent_s=sent - self.start, took_s=time.monotonic() - sent, status=status, body=body)

    async def _ask(self, content: bytes) -> tuple[int, bytes]:
        connection = self.free.pop() if self.free else await self._connect()
        try:
            connection[1].write(content)
            answer = await read_answer(connection[0])
        except BaseException:  # nobody reads what may still come
            connection[1].close()
            raise
        self.free.append(connection)
        return answer

    async def _connect(self) -> Connection:
        parts = urlsplit(self.base_url)
        return await asyncio.open_connection(parts.hostname, parts.port)


def to_bytes(base_url: str, request: Request) -> bytes:
    """A request as it goes over the connection."""
    headers = {"Host": urlsplit(base_url).netloc, **request.headers, "Content-Length": str(len(request.body))}
    lines = [f"POST {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + request.body


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of one answer that tells its length.

    Raises:
        EOFError, OSError: The connection ended.
        ValueError: It is no such answer.
    """
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "")))
    return int(first.split(" ")[1]), body[int(headers.get(HEADER_LENGTH.lower(), 0)) :]
