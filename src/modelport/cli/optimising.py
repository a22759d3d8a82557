"""`optimise`: parsing, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from modelport import _render
from modelport.cli.app import Json, Repository, app, progress
from modelport.errors import UsageError
from modelport.repository.layout import DEFAULT_REPOSITORY


@app.command("optimise")
def optimise_command(
    name: Annotated[str, typer.Argument(help="NAME or NAME/VERSION, an ONNX model.")],
    to: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="`int8` (convolutional nets), `int8-dynamic` (LSTM, attention, dense), `fp16`; with training: "
            "`pruned`, `distilled`. With --budget the ones to try, such as `int8,pruned`; left out: all that fit."
        ),
    ] = None,
    budget: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help='Try one after the other, and keep the best that loses no more: "accuracy drop <= 0.01", "f1 >= 0.9", '
            '"agreement >= 0.95".'
        ),
    ] = None,
    objective: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="With --budget, what is to be best: `latency`, `throughput` or `size`. Left out: latency."),
    ] = None,
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--data",
            "-d",
            help="`.npz` with real samples to calibrate with, an array for each input. Left out: half of those scored.",
        ),
    ] = None,
    evaluation: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="What to score with, as `modelport evaluate --data` takes it. Left out: what gates or recipe kept."
        ),
    ] = None,
    count: Annotated[int, typer.Option("--samples", help="The most samples to calibrate with.")] = 128,
    calibration: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="How `int8` finds ranges: `minmax`, `entropy` or `percentile`. Left out: minmax; with --budget each."
        ),
    ] = None,
    per_channel: Annotated[
        bool,
        typer.Option("--per-channel/--per-tensor", help="A scale for each channel of the weights, or one for all."),
    ] = True,
    exclude: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--exclude", "-x", help="A layer that keeps its precision. Repeat it."),
    ] = None,
    max_drop: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            "--max-drop",
            help="How much lower the first score may be. Left out: 0.01 of a metric, 0.05 of the agreement with the "
            "original.",
        ),
    ] = None,
    recipe: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="For training: the recipe's script. Left out: the one that built it, in `export/`."),
    ] = None,
    ratio: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            help="`pruned`: the share of channels taken out of each layer. Left out: 0.5; with --budget several."
        ),
    ] = None,
    epochs: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="How often all samples are seen in training. Left out: as the recipe says."),
    ] = None,
    student: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="`distilled`: which of the recipe's students is taught. Left out: its only one."),
    ] = None,
    teaching: Annotated[
        float, typer.Option(help="`distilled`: the teacher's share of what it learns; the labels have the rest.")
    ] = 0.5,
    temperature: Annotated[float, typer.Option(help="`distilled`: divides all logits; higher is softer.")] = 2.0,
    into: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The model that it becomes a version of. Left out: the same model."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Train on a sliver of the data: the model is no good.")
    ] = False,
    min_agreement: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="The least agreement with the original. Left out: any, where a metric decides."),
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="With --to: publish it also where it is neither smaller nor faster.")
    ] = False,
    rounds: Annotated[int, typer.Option(help="Turns in which original and result are measured.")] = 5,
    seconds: Annotated[float, typer.Option(help="Seconds of each one's part of a turn.")] = 0.5,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Make a smaller or faster candidate version from a published one, and say what is gained and lost.

    It is proved like any version, with a tolerance that fits the kind, and measured beside the original. Layers keep
    their precision where the drop would be more than allowed; where that does not help, or the result is neither
    smaller nor faster, nothing is published.

    With `--budget`, what is cheap is tried first, what was tried is told in a table, and the best is published. Ctrl-C
    loses only the one that is being tried: the same command goes on.

    Example: `modelport optimise digits_cnn --budget "accuracy drop <= 0.005" --objective size`
    """
    from modelport.optimise.types import Options

    options = Options(
        calibration=calibration or Options.calibration,
        per_channel=per_channel,
        exclude=tuple(exclude or ()),
        max_drop=max_drop,
        min_agreement=min_agreement,
        recipe=recipe,
        ratio=Options.ratio if ratio is None else ratio,
        epochs=epochs,
        student=student,
        teaching=teaching,
        temperature=temperature,
        quick=quick,
    )
    common = {
        "repository": repository,
        "name": into,
        "data": data,
        "evaluation": evaluation,
        "count": count,
        "options": options,
        "rounds": rounds,
        "seconds": seconds,
    }
    if budget is not None:
        kinds = tuple(word.strip() for word in to.split(",")) if to else ()
        if anyway:
            raise UsageError(
                "--anyway is given with --budget",
                why="within a budget the best is kept, and nothing where none is better",
                fix="name one kind with --to, and leave --budget out",
            )
        _within(name, budget, objective, json, kinds=kinds, calibration=calibration, ratio=ratio, **common)
    else:
        _one(name, to, objective, json, anyway=anyway, **common)


def _one(reference: str, to: str | None, objective: str | None, json: bool, **common: Any) -> None:
    from modelport.commands.optimise import optimise

    if to is None or objective is not None:
        raise UsageError(
            "--objective is given without --budget" if to else "it is not said to what the model is to be optimised",
            why="one kind is made with --to; several are tried, and the best is kept, with --budget",
            fix='--to int8, or --budget "accuracy drop <= 0.01"',
        )
    with progress(quiet=json) as report:
        done = optimise(reference, to=to, report=report, **common)
    if json:
        _render.as_json(done)
    else:
        _show(done)


def _within(reference: str, budget: str, objective: str | None, json: bool, **common: Any) -> None:
    from modelport.commands.ladder import optimise_within

    try:
        with progress(quiet=json) as report:
            done = optimise_within(reference, budget=budget, objective=objective or "latency", report=report, **common)
    except KeyboardInterrupt:
        _render.error("what was tried is kept: the same command goes on with what is left")
        raise
    if json:
        _render.as_json(done)
    else:
        _show_ladder(done)
    done.require()


def _show_ladder(done: Any) -> None:
    columns = ("tried", "", f"drop, {done.samples} samples", "size", "latency", "throughput", "why not")
    _render.table(f"{done.model}/{done.origin}: {done.budget}, best {done.objective}", columns, _rungs(done))
    _render.lines(*([f"columns {done.columns}"] if done.columns else []))
    if done.published is None:
        return
    (kept,) = (one for one in done.rungs if one.state == "kept")
    seen = kept.measured
    _render.lines(
        f"published {done.published}, {kept.rung} of version {done.origin} "
        f"(candidate: 'modelport promote {done.published.replace('/', ' ')}' lets it serve)",
        f"measured: {seen.how}, {seen.rounds} rounds, {seen.sessions} x {seen.threads} threads",
        *kept.notes,
    )


def _rungs(done: Any) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for one in done.rungs:
        drop = one.drop or (f"{one.scores[0].drop:.4g}" if one.scores else "")
        seen = one.measured
        gains = seen.words() if seen else ("",) * 3
        rows.append((one.rung, one.state, str(drop), *gains, one.why))
    return rows


def _show(done: Any) -> None:
    seen = done.measured
    _render.lines(
        f"published {done.model} version {done.version}, {done.to} of version {done.origin} "
        f"(candidate: 'modelport promote {done.model} {done.version}' lets it serve)"
    )
    before, after = seen.before, seen.after
    smaller, faster, more = seen.words()
    rows: list[tuple[object, ...]] = [
        ("size", _render.size(before.size_bytes), _render.size(after.size_bytes), smaller),
        (
            "latency, one row",
            f"{before.latency_ms:.3f} ms",
            f"{after.latency_ms:.3f} ms",
            f"{faster} {_spread(seen.faster)}",
        ),
        (
            f"throughput, batches of {seen.batch}",
            f"{before.rows_per_s:,.0f}/s",
            f"{after.rows_per_s:,.0f}/s",
            f"{more} {_spread(seen.more)}",
        ),
    ]
    rows += [
        (
            f"{s.metric}, {s.samples} samples",
            f"{s.before:.4f}",
            f"{s.after:.4f}",
            f"drop {s.drop:.4f}" if number or done.drop is None else f"drop {done.drop}",
        )
        for number, s in enumerate(done.scores)
    ]
    _render.table("", ("", f"version {done.origin}", f"version {done.version}", ""), rows)
    _render.lines(f"measured: {seen.how}, {seen.rounds} rounds, {seen.sessions} x {seen.threads} threads", *done.notes)


def _spread(ratio: Any) -> str:
    flag = ", unstable: the machine was not quiet" if ratio.unstable else ""
    return f"{ratio.range_words()}{flag}"
