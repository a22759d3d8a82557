"""HTTP for the asyncio client, over aiohttp."""

from __future__ import annotations

import asyncio

import aiohttp

from modelport.client import _errors
from modelport.client._calls import Answer, Call
from modelport.client._connection import Target, tls_context
from modelport.client._http import HttpAnswer, answer_from, request_for
from modelport.client._places import take_place
from modelport.client._policy import Deadline


class AsyncHttpTransport:
    """Carries calls over HTTP/1.1 within one event loop.

    Args:
        target: The server.
        concurrency: Most calls at once.
    """

    def __init__(self, target: Target, concurrency: int) -> None:
        self._target = target
        self._concurrency = concurrency
        self._places = asyncio.Semaphore(concurrency)
        self._tls = tls_context(target)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def call(self, call: Call, deadline: Deadline) -> Answer:
        """Send one call and wait for its answer.

        Raises:
            ModelportError: There is no good answer by the deadline.
        """
        if self._closed:
            raise _errors.closed(self._target)
        await take_place(self._places, self._concurrency, self._target, call, deadline)
        try:
            return answer_from(self._target, call, await self._answer(call, deadline))
        finally:
            self._places.release()

    async def _answer(self, call: Call, deadline: Deadline) -> HttpAnswer:
        try:
            return await self._exchange(call, deadline)
        except (TimeoutError, asyncio.TimeoutError) as error:
            raise _errors.late(self._target, call, deadline.timeout_s) from error
        except aiohttp.ClientConnectorError as error:  # certificates included
            cause = (
                error.certificate_error
                if isinstance(error, aiohttp.ClientConnectorCertificateError)
                else error.os_error
            )
            raise _errors.unreachable(self._target, cause) from error
        except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError) as error:
            raise _errors.broken(self._target, call, error) from error
        except aiohttp.ClientError as error:
            raise _errors.unreadable(self._target, call, f"not HTTP ({type(error).__name__})") from error

    async def _exchange(self, call: Call, deadline: Deadline) -> HttpAnswer:
        request = request_for(self._target, call)
        left_s = deadline.remaining_s()
        if left_s <= 0:
            raise TimeoutError("the deadline has passed")
        async with self._opened().request(
            request.method,
            f"{self._target.scheme}://{self._target.authority}{request.path}",
            headers=request.headers,
            data=request.body or None,
            allow_redirects=False,  # the key is for this server only
            timeout=aiohttp.ClientTimeout(total=left_s, ceil_threshold=float("inf")),
        ) as response:
            body = await response.read()
            headers = {name.lower(): value for name, value in response.headers.items()}
            return HttpAnswer(status=response.status, headers=headers, body=body)

    def _opened(self) -> aiohttp.ClientSession:
        """The session, made inside of the running loop by the first call."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, ssl=self._tls if self._tls is not None else True)
            self._session = aiohttp.ClientSession(
                connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    async def close(self) -> None:
        """Close all connections."""
        self._closed = True
        if self._session is not None:
            await self._session.close()
