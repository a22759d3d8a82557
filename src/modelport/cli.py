"""The command line: parsing only. Each verb is a function in `modelport.commands` that does the work."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from modelport import _guard, _render
from modelport._version import __version__
from modelport.errors import UsageError
from modelport.repository.layout import DEFAULT_REPOSITORY

app = typer.Typer(
    name="modelport",
    help="Trained PyTorch and Keras models in, verified and versioned NVIDIA Triton services out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

Repository = Annotated[Path, typer.Option("--repository", "-r", help="Folder of the model repository.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
TokenFile = Annotated[
    Optional[Path],  # noqa: UP045 - typer reads the annotation at run time, on Python 3.10 too
    typer.Option("--token-file", help="File with the bearer token (or set MODELPORT_TOKEN)."),
]


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        _render.lines(f"modelport {__version__}")
        raise typer.Exit


@app.command("export")
def export_command(
    source: Annotated[
        str, typer.Argument(help="`.keras`, `.h5`, `.onnx`, TorchScript `.pt`, `.pt2`, or `package.module:factory`.")
    ],
    name: Annotated[str, typer.Option("--name", "-n", help="Model name.")],
    format: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--format", "-f", help="`onnx` or `torchscript`; left out, what fits the source."),
    ] = None,
    inputs: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--input", "-i", help="An input as NAME:DTYPE:SIZES; a word for a size that varies. Repeat it."),
    ] = None,
    samples: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--samples", "-s", help="`.npz` with real samples, one array for each input, rows in front."),
    ] = None,
    outputs: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--output", "-o", help="Name of an output, in the model's order. Repeat it."),
    ] = None,
    labels: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--labels", "-l", help="Text file, one class label a line, for the first output."),
    ] = None,
    max_batch_size: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--max-batch-size", "-b", help="Left out: 32 if the batch axis holds, else 0. 0: no batch axis."),
    ] = None,
    weights: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--weights", "-w", help="safetensors or state dict for a factory's model."),
    ] = None,
    instance_count: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--instances", help="Copies that answer side by side. Left out: 1, or what the model has."),
    ] = None,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Convert a trained model, prove that it answers as the source does, and publish it as the next version.

    Example: `modelport export model.keras --name digits --input image:float32:batch,28,28,1 --output probabilities`
    """
    from modelport.commands.export import export

    with _progress(quiet=json) as report:
        done = export(
            source,
            name=name,
            repository=repository,
            example_inputs=None if samples is None else _samples(samples),
            inputs=inputs or (),
            output_names=outputs,
            format=format,
            labels=None if labels is None else _text_lines(labels),
            max_batch_size=max_batch_size,
            weights=weights,
            instance_count=instance_count,
            report=report,
        )
    if json:
        _render.as_json(done)
        return
    _render.lines(f"published {done.model} version {done.version} in {done.folder}")
    _comparison_table([(done.model, done.version, "artefact", c) for c in done.evidence.comparisons.values()])
    if done.evidence.note:
        _render.lines(f"note: {done.evidence.note}")


@app.command("verify")
def verify_command(
    model: Annotated[str, typer.Argument(help="NAME or NAME/VERSION.")],
    url: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--url", "-u", help="A running server (http, https, grpc, grpcs). Repeat it. None: in process."),
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds for one request.")] = 30.0,
    token_file: TokenFile = None,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Replay a version's evidence: its golden inputs, compared with what the trained model answered.

    Example: `modelport verify digits_cnn --url http://127.0.0.1:8000 --url grpc://127.0.0.1:8001`
    """
    from modelport.commands.verify import verify

    with _progress(quiet=json) as report:
        report(f"replaying the evidence of {model}")
        done = verify(
            model, repository=repository, urls=tuple(url or ()), timeout_s=timeout_s, token=_token(token_file)
        )
    if json:
        _render.as_json(done)
        return
    _comparison_table([(v.model, v.version, f"{v.where}, {v.how}", c) for v in done for c in v.comparisons.values()])


@app.command("list")
def list_command(repository: Repository = DEFAULT_REPOSITORY, json: Json = False) -> None:
    """List the models and versions of a repository.

    Example: `modelport list --json`
    """
    from modelport.commands.listing import list_models

    rows = list_models(repository)
    if json:
        _render.as_json(rows)
        return
    columns = ("model", "version", "state", "format", "trained with", "size", "created", "metric")
    _render.table(
        "",
        columns,
        [
            (
                row.model,
                "" if row.version is None else row.version,
                f"{row.state}: {row.problem}" if row.problem else row.state,
                row.format,
                row.framework,
                _render.size(row.size_bytes) if row.size_bytes else "",
                row.created.replace("T", " ").removesuffix("+00:00"),
                ", ".join(f"{key} {value:.4g}" for key, value in row.metrics.items()),
            )
            for row in rows
        ],
    )


@app.command("show")
def show_command(
    model: Annotated[str, typer.Argument(help="NAME or NAME/VERSION.")],
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Show a version: its card, tensors, files and configuration.

    Example: `modelport show digits_cnn/1`
    """
    from modelport.commands.listing import show

    shown = show(model, repository=repository)
    if json:
        _render.as_json(shown)
        return
    _render.lines(f"{shown.row.model} version {shown.row.version} ({shown.row.state})", "", shown.card)
    rows = [(name, _render.size(record.size_bytes), record.sha256) for name, record in shown.manifest.files.items()]
    _render.table("files", ("file", "size", "sha256"), rows)
    _render.table("made with", ("software", "version"), list(shown.manifest.makers.items()))
    _render.lines("config.pbtxt:", "", shown.config)


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


@app.command("infer")
def infer_command(
    model: Annotated[str, typer.Argument(help="Model name.")],
    inputs: Annotated[
        list[str], typer.Option("--input", "-i", help="NAME=@FILE (.npy, .npz, .png, .jpg, .json) or NAME=JSON.")
    ],
    url: Annotated[
        str, typer.Option("--url", "-u", help="Server (http, https, grpc, grpcs).")
    ] = "http://127.0.0.1:8000",
    version: Annotated[Optional[int], typer.Option(help="Version; the serving one when left out.")] = None,  # noqa: UP045
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds for the whole call.")] = 10.0,
    token_file: TokenFile = None,
    json: Json = False,
) -> None:
    """Ask a served model for inference.

    Example: `modelport infer linear_regression --input x=[0.5]`
    """
    from modelport.commands.infer import infer

    answers = infer(model, url=url, inputs=inputs, version=version, timeout_s=timeout_s, token=_token(token_file))
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

    with _progress(quiet=json) as report:
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors become a message and an exit code.

    Args:
        argv: Arguments without the program's name; those of the process when None.
    """
    words = None if argv is None else list(argv)
    return _guard.guarded(lambda: app(args=words, prog_name="modelport"), program="modelport")


def _progress(*, quiet: bool) -> Any:
    """A spinner with the current step on standard error; the steps as lines where that is no terminal."""
    from modelport._progress import progress

    return progress(_render.ERR, quiet=quiet)


def _samples(path: Path) -> dict[str, Any]:
    from modelport.convert.samples import read_samples

    return read_samples(path)


def _text_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path} cannot be read", why=str(exc), fix="give a UTF-8 text file") from exc


def _token(path: Path | None) -> str | None:
    if path is None:
        return None
    token = " ".join(_text_lines(path)).strip()
    if not token:
        raise UsageError(f"{path} is empty", why="--token-file names a file with a token in it", fix="write it there")
    return token


def _comparison_table(rows: Sequence[tuple[str, int, str, Any]]) -> None:
    columns = ("model", "version", "where", "output", "samples", "max error", "allowed", "classes agree")
    _render.table(
        "",
        columns,
        [
            (model, version, where, c.tensor, c.samples, c.max_abs_error, c.allowed, _percent(c.argmax_agreement))
            for model, version, where, c in rows
        ],
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _answer_row(name: str, array: Any) -> tuple[str, str, str, str]:
    values = ", ".join(f"{v:.6g}" if array.dtype.kind == "f" else str(v) for v in array.ravel()[:16])
    return name, str(array.dtype), str(list(array.shape)), values + (", ..." if array.size > 16 else "")
