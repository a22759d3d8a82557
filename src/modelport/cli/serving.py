"""`serve`: parsing, and what is printed."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Optional

import typer

from modelport import _render
from modelport.cli.app import Repository, app
from modelport.repository.layout import DEFAULT_REPOSITORY


@app.command("serve")
def serve_command(
    models: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--model", "-m", help="Serve only this model. Repeat it."),
    ] = None,
    http_port: Annotated[int, typer.Option(help="HTTP port; 0 takes a free one.")] = 8000,
    grpc_port: Annotated[int, typer.Option(help="gRPC port; 0 takes a free one.")] = 8001,
    metrics_port: Annotated[int, typer.Option(help="Prometheus port; 0 takes a free one.")] = 8002,
    repository: Repository = DEFAULT_REPOSITORY,
) -> None:
    """Serve a repository with the embedded Triton on this machine's loopback address, until Ctrl-C.

    Example: `modelport serve --model digits_cnn`
    """
    from modelport.commands.serve import curl_line, serve, serve_forever

    server = serve(repository, models=models, http_port=http_port, grpc_port=grpc_port, metrics_port=metrics_port)

    def ready(started: Any) -> None:
        _render.lines(
            f"serving {repository}",
            f"  HTTP     {started.http_url}",
            f"  gRPC     {started.grpc_url}",
            f"  metrics  {started.metrics_url}",
            f"  log      {started.log}",
        )
        for failed, reason in started.failed.items():
            _render.ERR.print(f"model {failed} did not load: {reason}", markup=False)
        line = curl_line(repository, started.http_url)
        if line:
            _render.lines("try it:", f"  {line}")
        _render.lines("Ctrl-C stops it.")
        sys.stdout.flush()

    serve_forever(server, ready)
