"""`bench`: parsing, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from modelport import _render
from modelport.cli.app import Json, Repository, app, progress
from modelport.errors import UsageError
from modelport.repository.layout import DEFAULT_REPOSITORY

_ONLY_IN_REPORT = ("client", "network")  # a terminal is narrow


@app.command("bench")
def bench_command(
    name: Annotated[Optional[str], typer.Argument(help="NAME or NAME/VERSION.")] = None,  # noqa: UP045
    flags: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="perf_analyzer's own flags, behind `--`.", metavar="[-- FLAGS...]"),
    ] = None,
    url: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--url",
            "-u",
            envvar="MODELPORT_URL",
            help="Server (http, https, grpc, grpcs). Left out: the repository's running one, or a temporary one.",
        ),
    ] = None,
    against: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Measure this in turns with it: NAME, NAME/VERSION, or the URL of another server."),
    ] = None,
    protocol: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="`http` or `grpc`. Left out: `http`, or what the URL says."),
    ] = None,
    concurrency: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Requests on the way: `8`, `1,4,16`, `1:32` (doubled each time: the default), `1:32:4`."),
    ] = None,
    request_rate: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Requests per second, whether the answers come or not; written alike."),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", help="Rows in one request.")] = 1,
    shared_memory: Annotated[
        bool, typer.Option("--shared-memory", help="Hand tensors over in shared memory, on one machine.")
    ] = False,
    inputs: Annotated[
        str, typer.Option(help="`golden`, `random`, or `auto`: golden ones where the repository has some.")
    ] = "auto",
    repeats: Annotated[int, typer.Option(help="Rounds. Each measures everything once, in turns.")] = 3,
    interval_s: Annotated[float, typer.Option("--interval", help="Seconds of one window; each run takes three.")] = 1.0,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="JSON file, the report beside it. Left out: new in benchmarks/results/."),
    ] = None,
    install: Annotated[bool, typer.Option("--install", help="Fetch perf_analyzer, and nothing else.")] = False,
    compare: Annotated[
        Optional[tuple[Path, Path]],  # noqa: UP045
        typer.Option(help="Compare two result files, and measure nothing; --output names an HTML file."),
    ] = None,
    ca_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="PEM file with the only authorities to trust, for https and grpcs."),
    ] = None,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Measure a served model with NVIDIA's perf_analyzer: throughput, latencies, and where the time goes.

    Each version answers its own golden inputs. Everything is measured several times, in turns; figures are medians of
    the rounds, and those that cannot be relied on say so. Every run is kept, with what made it.

    Example: `modelport bench digits_cnn --concurrency 1:32`
    """
    _one_of(name, install, compare)
    if install:
        _install()
    elif compare is not None:
        _compare(*compare, output, json=json)
    else:
        from modelport.bench.asked import Asked
        from modelport.commands.bench import bench

        asked = Asked(
            reference=name or "",
            against=against,
            repository=repository,
            url=url,
            protocol=protocol,
            concurrency=concurrency,
            request_rate=request_rate,
            batch_size=batch_size,
            shared_memory=shared_memory,
            inputs=inputs,
            repeats=repeats,
            interval_s=interval_s,
            ca_file=ca_file,
            flags=tuple(flags or ()),
        )
        early: list[Any] = []
        try:
            with progress(quiet=json) as report:
                done = bench(asked, output=output, tell=report, partly=early.append)
        except BaseException:
            for partly in early:
                _show(partly, json=json)
            raise
        _show(done, json=json)


def _one_of(name: str | None, install: bool, compare: object) -> None:
    if [name is not None, install, compare is not None].count(True) != 1:
        raise UsageError(
            "modelport bench takes one of NAME, --install and --compare",
            why="it measures a model, fetches perf_analyzer, or compares two results",
            fix="such as: modelport bench digits_cnn",
        )


def _install() -> None:
    from modelport.bench.install import install

    with progress(quiet=False) as report:
        program = install(report=report)
    _render.lines(f"perf_analyzer of {program.version}: {program.path}")


def _compare(first: Path, second: Path, output: Path | None, *, json: bool) -> None:
    from modelport.commands.bench import compare

    found = compare(first, second, html=output)
    if json:
        _render.as_json(found)
        return
    _show_comparison(found)
    if output is not None:
        _render.lines(f"report: {output}")


def _show(done: Any, *, json: bool) -> None:
    from modelport.bench import summary

    points = {one.name: summary.points(one) for one in done.results}
    if json:
        warnings = {one.name: summary.warnings(one) for one in done.results}
        found = {"points": points, "warnings": warnings, "comparison": done.comparison}
        _render.as_json({**found, "files": done.files, "report": done.html})
        return
    for one in done.results:
        _render.lines(f"{one.name}, in {one.target['server']}, with {one.target['inputs']}; times in ms")
        columns = summary.columns(points[one.name])
        shown = [number for number, column in enumerate(columns) if column not in _ONLY_IN_REPORT]
        rows = [summary.cells(point) for point in points[one.name]]
        _render.table("", [columns[n] for n in shown], [[row[n] for n in shown] for row in rows], narrow=True)
        _render.lines(*summary.warnings(one))
    if done.comparison is not None:
        _show_comparison(done.comparison)
    _render.lines(*(f"every run: {file}" for file in done.files), f"report: {done.html}")


def _show_comparison(found: Any) -> None:
    from modelport.bench import compare

    _render.lines(*(words for words, _ in compare.remarks(found)))
    _render.table("", compare.columns(found), [compare.cells(row) for row in found.rows], narrow=True)
