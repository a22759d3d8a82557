"""`serve` and `status`: parsing, and what is printed."""

from __future__ import annotations

import itertools
import sys
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from modelport import _render
from modelport.cli.app import Json, Repository, app
from modelport.cli.gateway import (
    LOOPBACK,
    BodyMb,
    GatewayAddress,
    GatewayConcurrency,
    GatewayMetricsAddress,
    GatewayMetricsPort,
    GatewayPort,
    HealthAddress,
    OtlpSample,
    OtlpTrust,
    OtlpUrl,
    Plain,
    TlsCert,
    TlsKey,
)
from modelport.cli.remote import GatewayElsewhere, Server, ServerSecret
from modelport.cli.remote import check as check_remote
from modelport.errors import ServerError, UsageError
from modelport.repository.events import as_text
from modelport.repository.layout import DEFAULT_REPOSITORY

if TYPE_CHECKING:
    from modelport.commands.status import Status, VersionStatus


class LogFormat(str, Enum):
    """How events are printed."""

    text = "text"
    json = "json"


@app.command("serve")
def serve_command(
    models: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--model", "-m", help="Serve only this model. Repeat it."),
    ] = None,
    http_port: Annotated[int, typer.Option(envvar="MODELPORT_HTTP_PORT", help="HTTP port; 0 takes a free one.")] = 8000,
    grpc_port: Annotated[int, typer.Option(envvar="MODELPORT_GRPC_PORT", help="gRPC port; 0 takes a free one.")] = 8001,
    metrics_port: Annotated[
        int,
        typer.Option(envvar="MODELPORT_METRICS_PORT", help="Port of Triton's Prometheus metrics; 0 takes a free one."),
    ] = 8002,
    health_port: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            envvar="MODELPORT_HEALTH_PORT",
            help="Port of /healthz, /readyz, /metrics; 8003, or a free one where the metrics port is 0.",
        ),
    ] = None,
    health_address: HealthAddress = LOOPBACK,
    server_url: Server = "",
    server_secret: ServerSecret = None,
    probe_interval_s: Annotated[
        float, typer.Option("--probe-interval", min=0.1, help="Seconds between two golden requests to a version.")
    ] = 5.0,
    probe_deadline_s: Annotated[
        float, typer.Option("--probe-deadline", min=0.1, help="Seconds that the answer to one may take.")
    ] = 5.0,
    log_format: Annotated[
        LogFormat, typer.Option(envvar="MODELPORT_LOG_FORMAT", help="Events on standard error: `text` or `json`.")
    ] = LogFormat.text,
    no_watch: Annotated[
        bool, typer.Option("--no-watch", help="Leave version folders that are copied in alone.")
    ] = False,
    settle_s: Annotated[
        float, typer.Option("--settle", min=0.5, help="Seconds without a change until such a folder is complete.")
    ] = 10.0,
    isolated: Annotated[
        bool,
        typer.Option(
            "--isolated",
            envvar="MODELPORT_ISOLATED",
            help="Run each ONNX model in processes of its own: slower; a crash takes no other model with it.",
        ),
    ] = False,
    gateway: Annotated[
        bool, typer.Option("--gateway", help="Run the gateway beside the server: TLS, keys, limits, routes.")
    ] = False,
    gateway_elsewhere: GatewayElsewhere = False,
    gateway_address: GatewayAddress = LOOPBACK,
    gateway_port: GatewayPort = 8443,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    plain: Plain = False,
    body_mb: BodyMb = 16.0,
    gateway_concurrency: GatewayConcurrency = 256,
    gateway_metrics_address: GatewayMetricsAddress = LOOPBACK,
    gateway_metrics_port: GatewayMetricsPort = None,
    otlp: OtlpUrl = "",
    otlp_sample: OtlpSample = "1%",
    otlp_trust: OtlpTrust = False,
    otlp_triton: Annotated[
        bool,
        typer.Option(
            "--otlp-triton",
            envvar="MODELPORT_OTLP_TRITON",
            help="The embedded Triton sends its part of a trace too. Its tracing can end it after long runs.",
        ),
    ] = False,
    repository: Repository = DEFAULT_REPOSITORY,
) -> None:
    """Serve a repository with the embedded Triton on this machine's loopback address, until Ctrl-C.

    The server is watched over: it is started again when it dies, a model whose process is lost is loaded anew, and
    `/readyz` tells whether every serving version answers as its source did. With `--gateway`, others reach it through
    Envoy, with keys that `modelport keys create` makes. With `--server`, a Triton that somebody else starts, such as
    the official container, is driven in its place; it sees the same repository.

    Example: `modelport serve --model digits_cnn`
    """
    from modelport.commands.gateway import receiver, settings
    from modelport.commands.serve import control_secret, curl_line, remote, supervise, unwatched

    if not gateway and (plain or tls_cert or tls_key):
        raise UsageError(
            "--plain, --tls-cert and --tls-key are options of the gateway",
            why="none is run: --gateway is missing; the server itself speaks plain HTTP on loopback",
            fix="add --gateway, or leave them out (also as MODELPORT_TLS_CERT and MODELPORT_TLS_KEY)",
        )
    traces = receiver(otlp, otlp_sample, trusted=otlp_trust, triton=otlp_triton, gateway=gateway)
    front = (
        settings(
            repository,
            address=gateway_address,
            port=gateway_port,
            certificate=tls_cert,
            key=tls_key,
            plain=plain,
            body_bytes=round(body_mb * 1_000_000),
            concurrency=gateway_concurrency,
            metrics_address=gateway_metrics_address,
            metrics_port=gateway_metrics_port,
            otlp=traces,
        )
        if gateway
        else None
    )

    ports = {"http_port": http_port, "grpc_port": grpc_port, "metrics_port": metrics_port}
    traced = traces.url if traces and otlp_triton else None
    own = {"--isolated": isolated, "--otlp-triton": otlp_triton, "--http-port": http_port != 8000}
    check_remote(server_url, embedded=own, gateway=gateway, elsewhere=gateway_elsewhere)
    server = (
        remote(repository, server_url, control_secret(server_secret), models=models, metrics_port=metrics_port)
        if server_url
        else unwatched(repository, models=models, isolated=isolated, traces=traced, **ports)
    )
    health = health_port if health_port is not None else 8003 if metrics_port else 0

    def started(supervisor: Any) -> None:
        _render.lines(
            f"serving {repository}",
            f"  HTTP     {server.http_url}",
            f"  gRPC     {server.grpc_url}",
            f"  metrics  {server.metrics_url}",
            f"  health   {supervisor.health_url}/readyz",
            *([f"  gateway  {supervisor.gateway_url}"] if supervisor.gateway_url else []),
            *([f"  trust    {front.trust}"] if front and front.trust else []),
            *([f"  log      {server.log}"] if server.log else []),
        )
        line = curl_line(repository, server.http_url)
        if line:
            _render.lines("try it, past the gateway:" if supervisor.gateway_url else "try it:", f"  {line}")
        if supervisor.gateway_url:
            _render.lines(
                "a key for somebody who comes through the gateway:",
                "  modelport keys create --tenant acme --models '*' --token-file acme.token",
            )
        _render.lines("Ctrl-C stops it.")
        sys.stdout.flush()

    supervise(
        server,
        started,
        only=models,
        write=_render.event,
        health_port=health,
        health_address=health_address,
        probe_interval_s=probe_interval_s,
        probe_deadline_s=probe_deadline_s,
        watch=not no_watch,
        settle_s=settle_s,
        as_json=log_format is LogFormat.json,
        gateway=front,
        gateway_elsewhere=gateway_elsewhere,
    )


@app.command("status")
def status_command(
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, until Ctrl-C.")] = False,
    sample_s: Annotated[float, typer.Option("--sample", min=0.1, help="Seconds over which rates are measured.")] = 1.0,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Show what the running service of a repository does now: server, models, versions, queue, rates, errors, events.

    `processes` are those of a model that live, of those that should; blank where it runs in the server's own.
    `pending` requests wait in the queue; `batch` is the mean number of rows in a run, `ms` the mean time of a
    request in the server, `probe ms` that of the last golden request. Rates are of what reached the model: what is
    refused as malformed is not in them. Leaves with 40 where none runs.

    Example: `modelport status --watch`
    """
    from modelport.commands import status as statuses

    for found in itertools.islice(statuses.watch(repository, sample_s=sample_s), None if watch else 1):
        if isinstance(found, ServerError):
            away = {"repository": str(repository), "error": found.what, "why": found.why, "fix": found.fix}
            _render.as_json(away, line=True) if json else _show_away(found)
        elif json:
            _render.as_json(found, line=watch)
        else:
            _show(found, clear=watch)
        sys.stdout.flush()


def _show_away(problem: ServerError) -> None:
    _render.clear()
    _render.lines(*str(problem).splitlines())


def _show(found: Status, *, clear: bool) -> None:
    if clear:
        _render.clear()
    ready = {True: "ready", False: "not ready", None: f"readiness unknown: {found.unwatched}"}[found.ready]
    restarts = f", started again {found.restarts} times" if found.restarts else ""
    missing = (f"  missing  {model}: {why}" if model else f"  missing  {why}" for model, why in found.missing.items())
    _render.lines(
        f"{found.repository}: {ready}",
        f"  server   {_server(found)}{restarts}",
        *([f"  watched  by process {found.supervisor}, {found.health_url}"] if found.supervisor else []),
        *([f"  gateway  {_gateway(found)}"] if found.gateway_url else []),
        f"  HTTP     {found.http_url}",
        f"  gRPC     {found.grpc_url}",
        f"  metrics  {found.metrics_url}",
        *([f"  log      {found.log}"] if found.log else []),
        *([f"  hint     {found.hint}"] if found.hint else []),
        *missing,
    )
    columns = (
        "model",
        "version",
        "state",
        "processes",
        "req/s",
        "err/s",
        "pending",
        "batch",
        "ms",
        "probe ms",
        "problem",
    )
    _render.table("", columns, [_status_row(row) for row in found.versions])
    _render.lines(*map(as_text, found.events))


def _server(found: Status) -> str:
    return f"process {found.pid}, up {_duration(found.uptime_s)}" if found.pid else "started elsewhere"


def _gateway(found: Status) -> str:
    if found.gateway is None:
        return f"down, {found.gateway_url}"
    return (
        f"process {found.gateway}, {found.gateway_url}" if found.gateway else f"started elsewhere, {found.gateway_url}"
    )


def _status_row(row: VersionStatus) -> tuple[object, ...]:
    rates = row.rates
    return (
        row.model,
        row.version,
        row.state,
        f"{row.stubs}/{row.instances}" if row.instances else "",
        round(rates.requests_per_s, 1),
        round(rates.errors_per_s, 1),
        rates.pending,
        rates.mean_batch,
        rates.latency_ms,
        row.probe_ms,
        row.problem,
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    words = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{count} {unit}" for count, unit in words if count or unit == "s")
