"""Read a page of a process on this machine, whatever proxies the environment names."""

from __future__ import annotations

import http.client
import urllib.request

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(url: str, *, timeout_s: float) -> str:
    """The text at a URL.

    Args:
        url: Such as `http://127.0.0.1:8002/metrics`.
        timeout_s: Seconds for connecting, and for each read.

    Raises:
        OSError: Nothing answers there, or not with a page.
    """
    try:
        with _DIRECT.open(url, timeout=timeout_s) as answer:
            return str(answer.read().decode("utf-8", "replace"))
    except http.client.HTTPException as exc:
        raise OSError(f"{url}: {exc!r}") from exc
