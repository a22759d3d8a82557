"""Traces of the embedded server: its options for them. Without them it makes none.

Tracing in 2.51 is not without faults: it can end the server after long runs. So it is on only where it was asked for.
"""

from __future__ import annotations

DELAY_MS = 1000  # until spans are sent
SERVICE = "triton"


def options(url: str) -> tuple[str, ...]:
    """For `EmbeddedServer(extra_args=...)`: spans for requests that bring a trace context, and for no others.

    Args:
        url: Where they go, over OTLP/HTTP, such as `http://127.0.0.1:4318/v1/traces`.
    """
    settings = ("mode=opentelemetry", "level=TIMESTAMPS", "rate=0", "count=-1")
    sent = (f"url={url}", f"resource=service.name={SERVICE}", f"bsp_schedule_delay={DELAY_MS}")
    return tuple(f"--trace-config={one}" for one in (*settings, *(f"opentelemetry,{each}" for each in sent)))
