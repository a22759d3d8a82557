"""`prometheus`: parsing, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelport import _render
from modelport.cli.app import Json, Repository, app
from modelport.repository.layout import DEFAULT_REPOSITORY


@app.command("prometheus")
def prometheus_command(
    write: Annotated[
        Path, typer.Option(help="Folder to write prometheus.yml and rules/ into; what is there is replaced.")
    ],
    triton: Annotated[str, typer.Option(metavar="HOST:PORT", help="Triton's metrics.")] = "",
    gateway: Annotated[str, typer.Option(metavar="HOST:PORT", help="The gateway's metrics.")] = "",
    supervisor: Annotated[str, typer.Option(metavar="HOST:PORT", help="The supervisor's metrics.")] = "",
    alertmanager: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="The Alertmanager that sends alerts on; none when left out.")
    ] = "",
    interval_s: Annotated[float, typer.Option("--interval", min=0.1, help="Seconds between two questions.")] = 15.0,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Write a configuration for Prometheus: what to ask for metrics, and rules for figures and alerts.

    Places are those of the service that runs for the repository, or the usual ones where none runs; those that are
    named here are asked instead, and no others.

    Example: `modelport prometheus --write build/prometheus`
    """
    from modelport.commands.prometheus import prometheus

    named = {"triton": triton, "gateway": gateway, "supervisor": supervisor}
    places = {job: place for job, place in named.items() if place}
    done = prometheus(write, repository=repository, places=places, interval_s=interval_s, alertmanager=alertmanager)
    if json:
        _render.as_json(done)
        return
    _render.lines(*(f"{job:10} http://{place}/metrics" for job, place in done.places.items()))
    if done.alertmanager:
        _render.lines(f"alerts     http://{done.alertmanager}")
    if done.note:
        _render.lines(f"note: {done.note}")
    _render.lines(f"written: {', '.join(done.files)}")
    _render.lines(f"start it: prometheus --config.file={done.files[0]} --web.listen-address=127.0.0.1:9090")
