"""`tune`: parsing, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from modelport import _render
from modelport.cli.app import Json, Repository, app, progress
from modelport.repository.layout import DEFAULT_REPOSITORY

_COLUMNS = (
    *("setting", "clients", "predicted/s", "measured/s", "ratio"),
    *("p99 ms predicted", "p99 ms", "mean batch", "rounds", ""),
)


@app.command("tune")
def tune_command(
    name: Annotated[str, typer.Argument(help="NAME or NAME/VERSION.")],
    objective: Annotated[
        str, typer.Option(help="`throughput`: most answers each second. `latency`: the shortest one.")
    ] = "throughput",
    budget_ms: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--latency-budget-ms", help="Milliseconds that the latency may have at each load."),
    ] = None,
    percent: Annotated[
        int, typer.Option("--percentile", help="Which latency: 50, 90, 95 or 99 % of the requests do not exceed it.")
    ] = 99,
    concurrency: Annotated[
        str, typer.Option(help="Requests on the way: `32`, `1,8,32`; of several, each counts alike.")
    ] = "1,8,32",
    target: Annotated[
        str, typer.Option(help="`cpu` or `gpu`. Left out: where the configuration has it run.", show_default=False)
    ] = "",
    write: Annotated[
        str,
        typer.Option(
            help="Where to write the best setting: `config` (a running server takes it up), or `configs/NAME.pbtxt`. "
            "Left out: nowhere.",
            show_default=False,
        ),
    ] = "",
    protocol: Annotated[str, typer.Option(help="`http` or `grpc`.")] = "http",
    max_measurements: Annotated[
        int, typer.Option(help="Runs of perf_analyzer. 0: a tenth of what trying every setting would take.")
    ] = 0,
    repeats: Annotated[int, typer.Option(help="Rounds in which the best ones and the present one take turns.")] = 3,
    interval_s: Annotated[float, typer.Option("--interval", help="Seconds of one window; each run takes three.")] = 1.0,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="JSON file. Left out: a new one in benchmarks/results/."),
    ] = None,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Find the batch size, batching delay, instances and threads that serve a model best on this machine.

    The model is timed, a simulation of Triton's batcher says what is worth measuring, and perf_analyzer measures only
    that: in a server of its own, the running one is not touched. Nothing is written without `--write`; and nothing with
    it where no setting keeps the latency budget (it leaves with 1 then), or, into `config.pbtxt`, where none is shown
    to be better than the present one.

    Example: `modelport tune digits_cnn --concurrency 32 --latency-budget-ms 20 --write config`
    """
    from modelport.bench.tuning.asked import Asked
    from modelport.commands.tune import tune

    asked = Asked(
        reference=name,
        repository=repository,
        objective=objective,
        budget_ms=budget_ms,
        percent=percent,
        concurrency=concurrency,
        target=target,
        protocol=protocol,
        max_measurements=max_measurements,
        repeats=repeats,
        interval_s=interval_s,
        write=write,
    )
    with progress(quiet=json) as report:
        done = tune(asked, output=output, tell=report)
    if json:
        _render.as_json({**vars(done), "reason": done.reason})
    else:
        _show(done)
    if not done.within_budget and done.withheld:
        raise typer.Exit(1)


def _show(done: Any) -> None:
    _render.lines(f"{done.model}/{done.version}: {done.wanted}")
    _render.table("", _COLUMNS, [_cells(done, line) for line in done.lines])
    if not done.within_budget:
        _render.lines("no setting that was measured keeps the latency budget; the best one comes closest to it")
    if done.best == done.present:
        _render.lines(f"the present setting is the best one: {done.best}")
    else:
        against = ""
        if done.ratio is not None:
            ratio = done.ratio
            against = f", x {ratio.median:.2f} of the present one ({ratio.low:.2f} to {ratio.high:.2f} in the rounds)"
            against += "; no difference shown" if ratio.low <= 1 <= ratio.high else ""
            against += "; unstable: the machine was not quiet" if ratio.unstable else ""
        _render.lines(f"best: {done.best}{against}", f"present: {done.present}")
    _render.lines(f"{done.measurements} measurements, {done.settings} settings to choose from; every run: {done.file}")
    if done.withheld:
        _render.lines(f"nothing was written: {done.withheld}")
    elif done.written is None:
        _render.lines("nothing was written: --write config does, or --write configs/NAME.pbtxt")
    else:
        where = f"; {done.written.server} serves it" if done.written.server else ""
        _render.lines(f"written: {done.written.path}{where}")


def _cells(done: Any, line: Any) -> list[object]:
    seen, said = line.measured, line.predicted
    mark = {(True, False): "best", (False, True): "present", (True, True): "best, present"}
    return [
        str(line.setting),
        line.clients,
        f"{said.rate:,.0f}",
        f"{seen.rate:,.0f}",
        f"{seen.rate / said.rate:.2f}",
        f"{said.latency_us[99] / 1000:.2f}",
        f"{seen.latency_us[99] / 1000:.2f}",
        f"{seen.mean_batch:.2f}",
        line.rounds,
        mark.get((line.setting == done.best, line.setting == done.present), ""),
    ]
