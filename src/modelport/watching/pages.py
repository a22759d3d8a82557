"""Pages of metrics, read together: by their URLs, or those of the service that runs for a repository."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelport.errors import ServerError
from modelport.server import loopback
from modelport.server.handle import ServerHandle
from modelport.watching.series import Series

ANSWER_S = 3.0
Page = Callable[[], str]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Figures of one moment.

    Attributes:
        at_s: When, in seconds that only grow.
        series: The figures.
        away: Pages that did not answer, each with the reason.
    """

    at_s: float
    series: Series
    away: Mapping[str, str]


def of_urls(urls: Sequence[str]) -> dict[str, Page]:
    """Pages by their URLs; one without a path is Triton's, at `/metrics`."""
    return {
        url: _page(url if url.partition("://")[2].partition("/")[2] else f"{url.rstrip('/')}/metrics") for url in urls
    }


def of_service(repository: Path, handle: ServerHandle) -> dict[str, Page]:
    """Pages of a running service: Triton's, and its supervisor's where there is one."""
    pages = {handle.metrics_url: _page(handle.metrics_url)}
    if handle.supervisor is not None and handle.supervisor.lives() and handle.health_url:
        pages[f"{handle.health_url}/metrics"] = _page(f"{handle.health_url}/metrics")
    return pages


def read(pages: Mapping[str, Page]) -> Reading:
    """Read them all.

    Raises:
        ServerError: None of them answers, or none has a figure of Triton.
    """
    texts, away = {}, {}
    for name, page in pages.items():
        try:
            texts[name] = page()
        except (OSError, ValueError) as exc:
            away[name] = str(exc)
    series = Series(texts.values())
    if not series.has("nv_inference_request_success") and not series.has("nv_inference_count"):
        said = "; ".join(f"{name}: {reason}" for name, reason in away.items())
        raise ServerError(
            f"no metrics of Triton at {', '.join(pages)}",
            why=said or "what answers there has no figure named nv_inference_*, or no model was loaded yet",
            fix="name Triton's metrics page, such as --url http://127.0.0.1:8002/metrics",
        )
    return Reading(at_s=time.monotonic(), series=series, away=away)


def _page(url: str) -> Page:
    return lambda: loopback.get(url, timeout_s=ANSWER_S)
