"""`serve`: parsing, and what is printed."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Annotated, Any, Optional

import typer

from modelport import _render
from modelport.cli.app import Repository, app
from modelport.repository.layout import DEFAULT_REPOSITORY


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
    http_port: Annotated[int, typer.Option(help="HTTP port; 0 takes a free one.")] = 8000,
    grpc_port: Annotated[int, typer.Option(help="gRPC port; 0 takes a free one.")] = 8001,
    metrics_port: Annotated[int, typer.Option(help="Port of Triton's Prometheus metrics; 0 takes a free one.")] = 8002,
    health_port: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Port of /healthz, /readyz, /metrics; 8003, or a free one where the metrics port is 0."),
    ] = None,
    probe_interval_s: Annotated[
        float, typer.Option("--probe-interval", min=0.1, help="Seconds between two golden requests to a version.")
    ] = 5.0,
    log_format: Annotated[LogFormat, typer.Option(help="Events on standard error: `text` or `json`.")] = LogFormat.text,
    no_watch: Annotated[
        bool, typer.Option("--no-watch", help="Leave version folders that are copied in alone.")
    ] = False,
    repository: Repository = DEFAULT_REPOSITORY,
) -> None:
    """Serve a repository with the embedded Triton on this machine's loopback address, until Ctrl-C.

    The server is watched over: it is started again when it dies, a model whose process is lost is loaded anew, and
    `/readyz` tells whether every serving version answers as its source did.

    Example: `modelport serve --model digits_cnn`
    """
    from modelport.commands.serve import curl_line, serve, supervise

    server = serve(repository, models=models, http_port=http_port, grpc_port=grpc_port, metrics_port=metrics_port)
    health = health_port if health_port is not None else 8003 if metrics_port else 0

    def started(supervisor: Any) -> None:
        _render.lines(
            f"serving {repository}",
            f"  HTTP     {server.http_url}",
            f"  gRPC     {server.grpc_url}",
            f"  metrics  {server.metrics_url}",
            f"  health   {supervisor.health_url}/readyz",
            f"  log      {server.log}",
        )
        line = curl_line(repository, server.http_url)
        if line:
            _render.lines("try it:", f"  {line}")
        _render.lines("Ctrl-C stops it.")
        sys.stdout.flush()

    supervise(
        server,
        started,
        only=models,
        write=_render.event,
        health_port=health,
        probe_interval_s=probe_interval_s,
        watch=not no_watch,
        as_json=log_format is LogFormat.json,
    )
