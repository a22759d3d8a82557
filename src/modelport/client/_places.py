"""Waiting for a place among a client's concurrent calls, in asyncio; threads have a timeout on `acquire` itself."""

from __future__ import annotations

import asyncio

from modelport.client import _errors
from modelport.client._calls import Call
from modelport.client._connection import Target
from modelport.client._policy import Deadline


async def take_place(
    places: asyncio.Semaphore, concurrency: int, target: Target, call: Call, deadline: Deadline
) -> None:
    """Take a place, which the caller releases.

    Raises:
        DeadlineError: None became free in time.
    """
    if not places.locked():
        await places.acquire()
        return
    try:
        await asyncio.wait_for(places.acquire(), deadline.remaining_s())
    except asyncio.TimeoutError as error:
        raise _errors.no_place(target, call, deadline.timeout_s, concurrency) from error
