"""`gateway`, and the options that it has in common with `serve --gateway`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from modelport import _render
from modelport.cli.app import Repository, app
from modelport.repository.layout import DEFAULT_REPOSITORY

LOOPBACK = "127.0.0.1"
HealthAddress = Annotated[
    str, typer.Option(envvar="MODELPORT_HEALTH_ADDRESS", help="Where /healthz, /readyz and /metrics are answered.")
]
GatewayAddress = Annotated[
    str, typer.Option(envvar="MODELPORT_GATEWAY_ADDRESS", help="Where the gateway listens; 0.0.0.0 for all networks.")
]
GatewayPort = Annotated[
    int,
    typer.Option(envvar="MODELPORT_GATEWAY_PORT", help="The gateway's port, for HTTP and gRPC; 0 takes a free one."),
]
TlsCert = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--tls-cert",
        envvar="MODELPORT_TLS_CERT",
        help="Certificate chain (PEM); without one, a development certificate.",
    ),
]
TlsKey = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--tls-key", envvar="MODELPORT_TLS_KEY", help="The certificate's private key (PEM)."),
]
Plain = Annotated[bool, typer.Option("--plain", help="Plain HTTP in place of TLS; on loopback only.")]
BodyMb = Annotated[
    float, typer.Option("--max-body-mb", min=0.001, max=2000, help="The largest request, in megabytes (10^6 bytes).")
]
GatewayConcurrency = Annotated[
    int,
    typer.Option("--gateway-concurrency", min=1, help="Requests on their way at a time; further ones get 503 at once."),
]
GatewayMetricsAddress = Annotated[
    str, typer.Option(envvar="MODELPORT_GATEWAY_METRICS_ADDRESS", help="Where Prometheus asks the gateway for metrics.")
]
GatewayMetricsPort = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        envvar="MODELPORT_GATEWAY_METRICS_PORT",
        help="On which port; 8004, or a free one where the gateway's port is 0.",
    ),
]
OtlpUrl = Annotated[
    str,
    typer.Option(
        "--otlp",
        envvar="MODELPORT_OTLP",
        metavar="URL",
        help="Send traces to this OpenTelemetry receiver, over OTLP/HTTP: `http://HOST:4318`.",
    ),
]
OtlpSample = Annotated[
    str,
    typer.Option("--otlp-sample", envvar="MODELPORT_OTLP_SAMPLE", help="Share of the requests that get a trace."),
]
OtlpTrust = Annotated[
    bool,
    typer.Option(
        "--otlp-trust", envvar="MODELPORT_OTLP_TRUST", help="Go on with a caller's own trace (traceparent): it decides."
    ),
]


@app.command("gateway")
def gateway_command(
    upstream: Annotated[
        list[str],
        typer.Option("--upstream", help="A Triton server: http://HOST:PORT[,grpc://HOST:PORT]. Repeat it."),
    ],
    gateway_address: GatewayAddress = LOOPBACK,
    gateway_port: GatewayPort = 8443,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    plain: Plain = False,
    body_mb: BodyMb = 16.0,
    gateway_concurrency: GatewayConcurrency = 256,
    another_after: Annotated[
        float,
        typer.Option(
            min=0,
            help="With several servers: seconds after which a request without an answer is sent to another one as "
            "well; 0: never. Above what the slowest model takes.",
        ),
    ] = 5.0,
    gateway_metrics_address: GatewayMetricsAddress = LOOPBACK,
    gateway_metrics_port: GatewayMetricsPort = None,
    health_address: HealthAddress = LOOPBACK,
    health_port: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            envvar="MODELPORT_HEALTH_PORT",
            help="Port of /metrics by tenant and model, as 'modelport serve' has them on 8003; 0 takes a free one. "
            "Left out: there are none.",
        ),
    ] = None,
    otlp: OtlpUrl = "",
    otlp_sample: OtlpSample = "1%",
    otlp_trust: OtlpTrust = False,
    repository: Repository = DEFAULT_REPOSITORY,
) -> None:
    """Run the gateway before Triton servers that run already, until Ctrl-C.

    All of them serve this repository. A server that fails is left out until it answers again; its requests go to
    another one. Where the gRPC port is not given it is the HTTP port and one.

    Example: `modelport gateway --upstream http://10.0.0.5:8000 --upstream http://10.0.0.6:8000`
    """
    from modelport.commands.gateway import receiver, run, settings

    front = settings(
        repository,
        address=gateway_address,
        port=gateway_port,
        certificate=tls_cert,
        key=tls_key,
        plain=plain,
        body_bytes=round(body_mb * 1_000_000),
        concurrency=gateway_concurrency,
        another_s=another_after,
        metrics_address=gateway_metrics_address,
        metrics_port=gateway_metrics_port,
        otlp=receiver(otlp, otlp_sample, trusted=otlp_trust),
        urls=upstream,
    )

    def started(url: str, metrics_url: str) -> None:
        trust = [f"  trust    {front.trust}"] if front.trust else []
        metrics = [f"  metrics  {metrics_url}"] if metrics_url else []
        _render.lines(f"gateway at {url}, before {', '.join(upstream)}", *trust, *metrics, "Ctrl-C stops it.")
        sys.stdout.flush()

    run(repository, front, started, write=_render.event, health_address=health_address, health_port=health_port)
