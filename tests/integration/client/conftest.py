"""Ways to call: the sync and the asyncio client, so that each test holds for both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from modelport.client import AsyncClient, Client


def ask_sync(url: str, method: str, *args: Any, options: dict[str, Any] | None = None, **kw: Any) -> Any:
    """One call with a client of its own."""
    with Client(url, **(options or {})) as client:
        return getattr(client, method)(*args, **kw)


def ask_aio(url: str, method: str, *args: Any, options: dict[str, Any] | None = None, **kw: Any) -> Any:
    """The same within an event loop of its own."""

    async def call() -> Any:
        async with AsyncClient(url, **(options or {})) as client:
            return await getattr(client, method)(*args, **kw)

    return asyncio.run(call())


@pytest.fixture(params=[ask_sync, ask_aio], ids=["sync", "aio"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`ask(url, method, *args, options={...}, **kw)`: make a client, call its method, close it."""
    return request.param
