"""How a gateway is run."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modelport import _cores
from modelport.errors import UsageError
from modelport.gateway.otlp import Otlp

LOOPBACK = "127.0.0.1"
_URL = re.compile(r"(?:(?P<scheme>\w+)://)?(?P<host>\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})/?")


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """A Triton server behind the gateway.

    Attributes:
        host: Name or address.
        http_port: For HTTP.
        grpc_port: For gRPC.
    """

    host: str
    http_port: int
    grpc_port: int


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a gateway is run.

    Attributes:
        address: Where it listens.
        port: On which port, for HTTP/1.1, HTTP/2 and gRPC alike.
        certificate: PEM file with the certificate's chain, and `key` with its private key; None for plain HTTP, which
            only loopback is given.
        key: See `certificate`.
        ca: What callers have to trust, where the certificate is our own; None where they need nothing.
        upstreams: The Triton servers.
        body_bytes: The largest request.
        depth: How deep JSON may be nested.
        concurrency: Requests that the servers work on at a time; what comes beyond is refused.
        connections: Callers' connections at a time; further ones are closed.
        memory_bytes: What Envoy's heap may take before it refuses requests.
        timeout_s: Until a call is given up.
        another_s: With several servers: until a call without an answer is sent to another one as well; 0 for never.
        body_s: Until a request has arrived as a whole.
        otlp: Where traces go; None for none.
        workers: Envoy's threads; half the cores when left out, for the models need the others.
        metrics_address: Where Prometheus asks. There are names of tenants and models: it is no page for callers.
        metrics_port: On which port; 0 takes a free one, None leaves it out.
    """

    address: str = LOOPBACK
    port: int = 8443
    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    upstreams: tuple[Upstream, ...] = ()
    body_bytes: int = 16 << 20
    depth: int = 100
    concurrency: int = 256
    connections: int = 10_000
    memory_bytes: int = 1 << 30
    timeout_s: float = 60.0
    another_s: float = 5.0
    body_s: float = 30.0
    otlp: Otlp | None = None
    workers: int = field(default_factory=lambda: max(1, _cores.usable() // 2))
    metrics_address: str = LOOPBACK
    metrics_port: int | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise UsageError(
                "a certificate and its key go together",
                why="only one of them is given",
                fix="give both, --tls-cert and --tls-key, or none",
            )
        if self.certificate is None and not is_loopback(self.address):
            raise UsageError(
                f"plain HTTP is not served on {self.address}",
                why="keys and data would go over the network as they are",
                fix="leave --plain out, or listen on 127.0.0.1",
            )

    @property
    def tls(self) -> bool:
        """Whether callers come over TLS."""
        return self.certificate is not None

    @property
    def trust(self) -> str:
        """What a caller has to trust, in words; empty where nothing."""
        return (
            f"{self.ca} (a development certificate: callers trust it with curl --cacert, or MODELPORT_CA)"
            if self.ca
            else ""
        )

    @property
    def url(self) -> str:
        """For callers on this machine."""
        host = LOOPBACK if self.address in ("0.0.0.0", "::") else self.address  # noqa: S104
        return f"{'https' if self.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def metrics_url(self) -> str:
        """For Prometheus on this machine; empty where there is none."""
        if self.metrics_port is None:
            return ""
        host = LOOPBACK if self.metrics_address in ("0.0.0.0", "::") else self.metrics_address  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.metrics_port}/metrics"


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def upstreams(urls: Sequence[str]) -> tuple[Upstream, ...]:
    """Servers by their URLs, such as `http://10.0.0.5:8000`, or `http://10.0.0.5:8000,grpc://10.0.0.5:9001` where the
    gRPC port is not the next one.

    Raises:
        UsageError: One cannot be read, or is there twice.
    """
    found = tuple(map(_upstream, urls))
    twice = sorted({f"{one.host}:{one.http_port}" for one in found if found.count(one) > 1})
    if twice:
        raise UsageError(f"a server is given twice: {', '.join(twice)}", why="it is one server", fix="give it once")
    return found


def _upstream(text: str) -> Upstream:
    http, _, grpc = text.partition(",")
    first, second = _URL.fullmatch(http), _URL.fullmatch(grpc) if grpc else None
    wrong = (
        first is None
        or first["scheme"] not in (None, "http")
        or (grpc and (second is None or second["scheme"] not in (None, "grpc") or second["host"] != first["host"]))
    )
    if wrong or first is None:
        raise UsageError(
            f"{text!r} is no server's URL",
            why="it is neither http://HOST:PORT nor http://HOST:PORT,grpc://HOST:PORT",
            fix="give it as http://10.0.0.5:8000; the gRPC port is the next one unless it is given too",
        )
    port = int(first["port"])
    return Upstream(
        host=first["host"].strip("[]"), http_port=port, grpc_port=int(second["port"]) if second else port + 1
    )
