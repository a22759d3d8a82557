"""`export` and `verify`: parsing, and what is printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from modelport import _render
from modelport.cli.app import CaFile, Json, Repository, TokenFile, app, progress, text_lines, token
from modelport.cli.switched import show_switch
from modelport.errors import UsageError
from modelport.repository.layout import DEFAULT_REPOSITORY


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
        typer.Option(
            "--weights",
            "-w",
            help="safetensors or state dict for a factory's model. Left out: the factory gives the trained ones.",
        ),
    ] = None,
    instance_count: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--instances", help="Copies that answer side by side. Left out: 1, or what the model has."),
    ] = None,
    pad: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--pad", help="NAME=VALUE fills sizes that vary without changing an answer (proved). Repeat it."),
    ] = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Go on and let it serve, as 'modelport promote' does.")
    ] = False,
    candidate: Annotated[
        bool, typer.Option("--candidate", help="Let also a model's first version be a candidate, without traffic.")
    ] = False,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Convert a trained model, prove that it answers as the source does, and publish it as the next version.

    The first version of a model serves; later ones are candidates until `modelport promote`.

    Example: `modelport export model.keras --name digits --input image:float32:batch,28,28,1 --output probabilities`
    """
    from modelport.commands.export import export

    with progress(quiet=json) as report:
        done = export(
            source,
            name=name,
            repository=repository,
            example_inputs=None if samples is None else _samples(samples),
            inputs=inputs or (),
            output_names=outputs,
            pad=_pad(pad or ()),
            format=format,
            labels=None if labels is None else text_lines(labels),
            max_batch_size=max_batch_size,
            weights=weights,
            instance_count=instance_count,
            candidate=candidate,
            report=report,
        )
    if not json:
        _show_export(done)  # it is published, whatever comes of promoting it
    switched = None
    if promote:
        from modelport.lifecycle.change import promote as promoted

        with progress(quiet=json) as report:
            switched = promoted(done.model, done.version, repository=repository, report=report)
        if not json:
            show_switch(switched, json=False)
    if json:
        _render.as_json(done if switched is None else {"exported": done, "promoted": switched})


@app.command("verify")
def verify_command(
    model: Annotated[str, typer.Argument(help="NAME or NAME/VERSION.")],
    url: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--url", "-u", help="A running server (http, https, grpc, grpcs). Repeat it. None: in process."),
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds for one request.")] = 30.0,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Replay a version's evidence: its golden inputs, compared with what the trained model answered.

    Example: `modelport verify digits_cnn --url http://127.0.0.1:8000 --url grpc://127.0.0.1:8001`
    """
    from modelport.commands.verify import verify

    with progress(quiet=json) as report:
        report(f"replaying the evidence of {model}")
        done = verify(
            model,
            repository=repository,
            urls=tuple(url or ()),
            timeout_s=timeout_s,
            token=token(token_file),
            ca_file=ca_file,
        )
    if json:
        _render.as_json(done)
        return
    _comparison_table([(v.model, v.version, f"{v.where}, {v.how}", c) for v in done for c in v.comparisons.values()])


def _show_export(done: Any) -> None:
    candidate = f"candidate: 'modelport promote {done.model}' lets it serve"
    state = "serving: the model's first" if done.serving else candidate
    _render.lines(f"published {done.model} version {done.version} ({state})")
    _comparison_table([(done.model, done.version, "artefact", c) for c in done.evidence.comparisons.values()])
    if done.evidence.note:
        _render.lines(f"note: {done.evidence.note}")


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


def _pad(texts: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError as exc:
            raise UsageError(
                f"--pad {text!r} cannot be used", why="it is not of the form NAME=NUMBER", fix="such as --pad tokens=0"
            ) from exc
        found[name] = int(number) if number.is_integer() else number
    return found


def _samples(path: Path) -> dict[str, Any]:
    from modelport.convert.samples import read_samples

    return read_samples(path)
