"""Where traces go, and how many of the requests have one: what `--otlp` and `--otlp-sample` say."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from modelport.errors import UsageError

PORT = 4318  # of OTLP over HTTP
PATH = "/v1/traces"
SAMPLE = "1%"
LEAST_PERCENT = 0.01  # Envoy counts in hundredths of a percent
_URL = re.compile(r"http://(?P<host>\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?(?P<path>/[\w./-]*)?")
_SHARE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?) ?%")


@dataclass(frozen=True, kw_only=True)
class Otlp:
    """A receiver of OpenTelemetry's traces, over HTTP.

    Attributes:
        host: Its name or address.
        port: Its port.
        path: Of its interface for traces.
        percent: Of the requests that get a trace, 0.01 to 100.
        trusted: Whether a caller's own trace context is gone on with.
    """

    host: str
    port: int = PORT
    path: str = PATH
    percent: float = 1.0
    trusted: bool = False

    @property
    def url(self) -> str:
        """The whole, as Triton wants it."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}{self.path}"


def read(url: str, sample: str = SAMPLE, *, trusted: bool = False) -> Otlp:
    """The receiver of a URL.

    Args:
        url: Such as `http://collector:4318`; the port and the path `/v1/traces` may be left out.
        sample: A share of the requests, such as `1%`.
        trusted: See `Otlp`.

    Raises:
        UsageError: One of them cannot be read.
    """
    found = _URL.fullmatch(url)
    port = int((found and found["port"]) or PORT)
    if found is None or not 0 < port < 65536:
        raise UsageError(
            f"{url!r} is no URL of an OTLP receiver",
            why="traces are sent over OTLP/HTTP, which a collector takes on port 4318; over neither gRPC nor TLS",
            fix="give it as http://HOST:4318; a collector beside this program sends traces on with TLS",
        )
    path = (found["path"] or "").rstrip("/")
    return Otlp(host=found["host"].strip("[]"), port=port, path=path or PATH, percent=_percent(sample), trusted=trusted)


def _percent(text: str) -> float:
    found = _SHARE.fullmatch(text.strip())
    percent = float(found["number"]) if found else math.nan
    if not LEAST_PERCENT <= percent <= 100:
        raise UsageError(
            f"{text!r} is no share of the requests",
            why=f"it is not a number of percent from {LEAST_PERCENT} to 100",
            fix="give it as --otlp-sample 1%",
        )
    return percent
