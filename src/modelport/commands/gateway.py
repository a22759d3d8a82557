"""The verb `gateway`: Envoy before Triton servers; and the settings that `serve --gateway` shares with it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelport.errors import UsageError
from modelport.gateway.otlp import Otlp, read
from modelport.gateway.settings import LOOPBACK, Settings, upstreams

if TYPE_CHECKING:
    from modelport.gateway.certificates import Certificate

POLL_S = 0.2
METRICS_PORT = 8004


def settings(
    repository: Path,
    *,
    address: str,
    port: int,
    certificate: Path | None,
    key: Path | None,
    plain: bool,
    body_bytes: int,
    concurrency: int,
    another_s: float = 5.0,
    urls: Sequence[str] = (),
    otlp: Otlp | None = None,
    metrics_address: str = LOOPBACK,
    metrics_port: int | None = None,
) -> Settings:
    """How a gateway is run; without a certificate and without `plain`, a development certificate is made.

    Its metrics are on 8004 when no port is given, and on a free one where its own is to be a free one.

    Raises:
        UsageError: The options do not go together, or plain HTTP is wanted on more than loopback.
        EnvironmentUnfitError: The certificate or its key cannot be used.
    """
    if plain and certificate is not None:
        raise UsageError(
            "--plain and --tls-cert exclude each other", why="plain HTTP has no certificate", fix="leave one out"
        )
    servers = upstreams(urls)
    ca = None
    if not plain and (certificate is None) == (key is None):  # one alone is refused below
        pair = _certificate(repository, certificate, key, address)
        certificate, key, ca = pair.certificate, pair.key, pair.ca
    return Settings(
        ca=ca,
        address=address,
        port=port,
        certificate=certificate,
        key=key,
        upstreams=servers,
        body_bytes=body_bytes,
        concurrency=concurrency,
        another_s=another_s,
        otlp=otlp,
        metrics_address=metrics_address,
        metrics_port=(METRICS_PORT if port else 0) if metrics_port is None else metrics_port,
    )


def receiver(
    url: str, sample: str, *, trusted: bool = False, triton: bool = False, gateway: bool = True
) -> Otlp | None:
    """Where traces go; None where there are to be none.

    Args:
        url: Of `--otlp`; empty without it.
        sample: Of `--otlp-sample`.
        trusted: Whether a caller's own trace is gone on with.
        triton: Whether the embedded server is to send its part.
        gateway: Whether a gateway is run, in which traces begin.

    Raises:
        UsageError: One of them cannot be read, or they do not go together.
    """
    if url and gateway:
        return read(url, sample, trusted=trusted)
    if url or triton or trusted:
        missing = "--gateway" if url else "--otlp"
        raise UsageError(
            "traces begin in the gateway and end in a receiver", why=f"{missing} is missing", fix=f"add {missing}"
        )
    return None


def _certificate(repository: Path, certificate: Path | None, key: Path | None, address: str) -> Certificate:
    """The given one, checked; where none is given, the development certificate."""
    from modelport.gateway import certificates, development_certificate  # cryptography takes a while to import

    if certificate is None or key is None:
        return development_certificate.ensure_for(repository, address)
    return certificates.check(certificate, key)


def run(
    repository: Path,
    front: Settings,
    started: Callable[[str, str], None],
    *,
    write: Callable[[str], None],
    health_address: str = LOOPBACK,
    health_port: int | None = None,
) -> None:
    """Run the gateway until Ctrl-C or SIGTERM, then let requests be answered.

    Args:
        repository: What the servers serve.
        front: How it is run.
        started: Called once with its URL, when it takes requests, and that of its own metrics; empty without these.
        write: Called with one line for each event.
        health_address: Where its own metrics are.
        health_port: On which port; 0 takes a free one, None leaves them out.

    Raises:
        ServerError: Envoy refuses the configuration, or does not start.
        PortTakenError: A port is in use.
    """
    from modelport.gateway.gateway import Gateway
    from modelport.supervisor.announce import Announcer
    from modelport.supervisor.gateway import Front
    from modelport.supervisor.gateway_metrics import Alone
    from modelport.supervisor.health import Health
    from modelport.supervisor.signals import Signals

    announce = Announcer(repository, write, as_json=False)
    running = Gateway(repository, front)
    watched = Front(running, announce, lambda: front.upstreams)
    metrics = Alone(watched)
    with contextlib.ExitStack() as stack:
        stack.callback(announce.close)
        stack.callback(watched.stop)
        url = ""
        if health_port is not None:
            pages = {"metrics": lambda _: (200, metrics.text())}
            url = stack.enter_context(Health(health_address, health_port, pages)).url + "/metrics"
        signals = stack.enter_context(Signals())
        with signals.interrupting():
            watched.start()
        started(running.settings.url, url)
        while not signals.stop.wait(POLL_S):
            pass
