"""`evaluate` and `gate`: parsing, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from modelport import _render
from modelport.cli.app import CaFile, Json, Repository, TokenFile, app, progress, token
from modelport.errors import UsageError
from modelport.repository.layout import DEFAULT_REPOSITORY

DATA = (
    "An .npz (inputs by name, `labels`, `slice_<name>`) or .csv; a recipe's .py file; `recipe` for what a recipe kept. "
)
FEW = 100  # rows


@app.command("evaluate")
def evaluate_command(
    reference: Annotated[str, typer.Argument(help="NAME (the version that serves) or NAME/VERSION.", metavar="NAME")],
    data: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help=f"{DATA}Left out: that of the model's gates, or of its recipe."),
    ] = None,
    metric: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--metric", help="Such as `accuracy`, `f1`, `roc_auc`, `top5`, `r2`, `mae`, `recall@10`. Repeat it."
        ),
    ] = None,
    output: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Name of the output to score. Left out: the first."),
    ] = None,
    url: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--url",
            "-u",
            help="Server (http, https, grpc, grpcs). Left out: the repository's running one, or a temporary one.",
        ),
    ] = None,
    protocol: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="`http` or `grpc`. Left out: `http`, or what the URL says."),
    ] = None,
    report_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--report", help="HTML file with tables, confusion matrix, ROC and calibration."),
    ] = None,
    resamples: Annotated[int, typer.Option(help="How often the rows are drawn for the intervals.")] = 1000,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Score a served model on labelled data, with 95 % intervals. The result is kept with the version.

    Example: `modelport evaluate digits_cnn/2 --data recipe --report build/digits_cnn.html`
    """
    from modelport.commands.evaluate import evaluate

    with progress(quiet=json) as tell:
        done = evaluate(
            reference,
            data=data,
            metrics=metric or (),
            output=output,
            url=url,
            protocol=protocol,
            token=token(token_file),
            ca_file=ca_file,
            resamples=resamples,
            report=report_file,
            repository=repository,
            tell=tell,
        )
    if json:
        _render.as_json(done)
        return
    rows = [("all", done.scores.rows, *_cells(done.scores.scores, done.scores.scores))]
    rows += [(f"{s.column} {s.value}", s.rows, *_cells(s.scores, done.scores.scores)) for s in done.scores.slices]
    _render.lines(f"{done.model} version {done.version}, output {done.output}, over {done.protocol}; data: {done.data}")
    _render.lines(*([f"columns {done.columns}"] if done.columns else []))
    _render.table("", ("rows of", "count", *done.scores.scores), rows)
    _render.lines(*([f"report: {done.report}"] if done.report else []))


@app.command("gate")
def gate_command(
    model: Annotated[str, typer.Argument(help="Model name.")],
    metric: Annotated[Optional[str], typer.Option(help="The metric of the rule.")] = None,  # noqa: UP045
    least: Annotated[Optional[float], typer.Option("--min", help="The least value that may serve.")] = None,  # noqa: UP045
    most: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--max", help="The greatest, for metrics of which less is better (`mae`)."),
    ] = None,
    max_drop: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="By how much it may be worse than that of the version that serves, on the same rows."),
    ] = None,
    sure: Annotated[
        bool, typer.Option("--sure", help="The whole 95 % interval has to keep the limits, not only what was measured.")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take the metric's rule away.")] = False,
    data: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help=f"{DATA}It is copied. Left out: what is kept."),
    ] = None,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Say what a version must be worth before `modelport promote` lets it serve. Without options: show that.

    Example: `modelport gate digits_cnn --metric accuracy --min 0.95 --max-drop 0.005 --data recipe`
    """
    from modelport.commands.gate import gate
    from modelport.repository.gate import Gate

    limits = (least, most, max_drop)
    given = any(limit is not None for limit in limits) or sure
    if (metric is None and (given or remove)) or (remove and given):
        raise UsageError(
            "this is no gate",
            why="--remove takes no limits" if remove and given else "no --metric says what is limited",
            fix="write for example --metric accuracy --min 0.95 --max-drop 0.005",
        )
    rule = None
    if metric is not None and not remove:
        rule = Gate(metric=metric, min=least, max=most, max_drop=max_drop, sure=sure)
    state = gate(model, rule, data=data, remove=metric if remove else None, repository=repository)
    if json:
        _render.as_json(state)
        return
    _render.lines(*(f"{model}: {one.words()}" for one in state.gates))
    few = "; so few show little" if state.data and state.rows < FEW else ""
    if not state.gates:
        _render.lines(f"{model} has no gate")
    if state.data:
        use = "judged with" if state.gates else "the next one will be judged with"
        _render.lines(f"{use} {state.rows} rows{few}: {state.data}")
    _render.lines(*([f"columns {state.columns}"] if state.columns else []))


def _cells(scores: Any, columns: Any) -> list[str]:
    return [str(scores[name]) if name in scores else "" for name in columns]
