"""`infer` and `demo`: parsing, and what is printed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from modelport import _render
from modelport.cli.app import CaFile, Json, Repository, TokenFile, app, progress, token
from modelport.errors import UsageError
from modelport.repository.layout import DEFAULT_REPOSITORY


@app.command("infer")
def infer_command(
    model: Annotated[str, typer.Argument(help="NAME, or NAME/VERSION.")],
    inputs: Annotated[
        list[str], typer.Option("--input", "-i", help="NAME=JSON, or NAME=@FILE (.npy .npz .json .txt .png .jpg).")
    ],
    url: Annotated[
        str, typer.Option("--url", "-u", envvar="MODELPORT_URL", help="Server (http, https, grpc, grpcs).")
    ] = "http://127.0.0.1:8000",
    version: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Version, or an alias such as `stable` where a gateway answers; the serving one when left out."
        ),
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds for the whole call.")] = 10.0,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    json: Json = False,
) -> None:
    """Ask a served model for inference.

    Example: `modelport infer linear_regression --input x=[0.5]`
    """
    from modelport.commands.infer import infer

    model, slash, within = model.partition("/")
    if slash and version is not None:
        raise UsageError(
            f"{model}/{within} and --version {version}: which version?",
            why="both name one",
            fix=f"write {model}/{within}, or {model} --version {version}",
        )
    version = within if slash else version
    answers = infer(
        model, url=url, inputs=inputs, version=version, timeout_s=timeout_s, token=token(token_file), ca_file=ca_file
    )
    if json:
        _render.as_json(answers)
        return
    _render.table("", ("output", "type", "shape", "values"), [_answer_row(n, a) for n, a in answers.items()])


@app.command("demo")
def demo_command(
    recipes: Annotated[Path, typer.Option(help="Folder with the recipes.")] = Path("export"),
    only: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--only", help="Use only this recipe, by its file's name without .py. Repeat it."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Train on slivers of the data: the models are no good.")
    ] = False,
    data: Annotated[
        str, typer.Option(help="`auto`, `package` (data that ships in packages) or `loader` (Keras's own loaders).")
    ] = "auto",
    report_file: Annotated[Path, typer.Option("--report", help="JSON file for the table's rows.")] = Path(
        "build/demo.json"
    ),
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Build the sample models that are missing, serve them, and compare every answer with the trained model's.

    Example: `modelport demo --only digits_cnn`
    """
    # Read when torch is first imported: threads that wait give their core to others instead of spinning, which makes
    # training several times faster on a machine that does something else too.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from modelport.commands import demo as demos
    from modelport.recipes.recipe import Options

    with progress(quiet=json) as report:
        rows = demos.demo(
            recipes=recipes,
            repository=repository,
            report_file=report_file,
            only=only or (),
            options=Options(quick=quick, data=data, report=report),
            line=(lambda _: None) if json else _render.lines,
        )
    if json:
        _render.as_json(rows)
    else:
        _render.table("", demos.COLUMNS, [demos.cells(row) for row in rows])
    demos.require_ok(rows)


def _answer_row(name: str, array: Any) -> tuple[str, str, str, str]:
    values = ", ".join(f"{v:.6g}" if array.dtype.kind == "f" else str(v) for v in array.ravel()[:16])
    return name, str(array.dtype), str(list(array.shape)), values + (", ..." if array.size > 16 else "")
