"""`openapi` and `client-code`: parsing, and what is printed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from modelport import _render
from modelport.cli.app import Repository, app
from modelport.repository.layout import DEFAULT_REPOSITORY

Model = Annotated[str, typer.Argument(help="Model name.")]
Output = Annotated[
    Optional[Path],  # noqa: UP045 - typer reads the annotation at run time, on Python 3.10 too
    typer.Option("--output", "-o", help="File to write. Left out: standard output."),
]


@app.command("openapi")
def openapi_command(
    model: Model,
    url: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Where callers find the gateway, such as `https://host:8443`."),
    ] = None,
    output: Output = None,
    repository: Repository = DEFAULT_REPOSITORY,
) -> None:
    """Print the OpenAPI 3.1 document of a served model, in JSON: tensors, labels, card, an example, errors.

    The gateway gives it to callers whose key is for the model: `GET /v2/models/NAME/openapi.json`.

    Example: `modelport openapi digits_cnn --url https://localhost:8443 --output digits_cnn.json`
    """
    from modelport.commands.describe import openapi_document

    content = openapi_document(model, url=url, repository=repository)
    _give(output, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


@app.command("client-code")
def client_code_command(
    model: Model,
    output: Output = None,
    repository: Repository = DEFAULT_REPOSITORY,
) -> None:
    """Write a typed Python client for one model: its inputs, outputs and labels as types that a checker knows.

    It is one file, and needs the package modelport where it runs.

    Example: `modelport client-code digits_cnn --output digits_cnn_client.py`
    """
    from modelport.commands.describe import client_code

    _give(output, client_code(model, repository=repository))


def _give(output: Path | None, text: str) -> None:
    if output is None:
        sys.stdout.write(text)  # as it is: rich would wrap and colour it
        return
    from modelport.commands.describe import save

    save(output, text)
    _render.ERR.print(f"written: {output}")
