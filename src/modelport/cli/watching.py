"""`top`: parsing, and what is shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from modelport import _render
from modelport.cli.app import Json, Repository, app
from modelport.errors import ServerError, UsageError
from modelport.repository.layout import DEFAULT_REPOSITORY

if TYPE_CHECKING:
    from modelport.watching.values import Model, Seen, Tenant, View, Work

MODELS = ("model", "ver", "req/s", "err/s", "p50 ms", "p99 ms", "server ms", "queue ms", "queue", "batch", "")
TENANTS = ("tenant", "req/s", "refused /s", "failed /s", "p50 ms", "p99 ms")
_TABLE = 4  # lines of a table beside its rows
_SOURCES = {
    "gateway": "p50 and p99: what callers saw in the last {:.0f} s, from the gateway's histograms",
    "server": "no p50 and p99: they are the gateway's, and none is watched; 'server ms' is the mean in Triton",
}


@app.command("top")
def top_command(
    urls: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--url", help="A page of metrics instead: Triton's, and the supervisor's. Repeat it."),
    ] = None,
    interval_s: Annotated[float, typer.Option("--interval", min=0.1, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Show it once, without taking the terminal.")] = False,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Watch a running service live: models, versions, rates, latencies, queue, batches, errors, tenants, GPU.

    `q` or Ctrl-C ends it. With `--once` or `--json`, or where standard output is no terminal, it is shown once, after
    one interval. `req/s`, `err/s` and what stands right of p99 are Triton's, golden requests included; p50, p99 and all
    that is told by tenant are the gateway's. `queue ms` is the part of `server ms` that requests waited.

    Example: `modelport top`
    """
    from modelport.commands.top import top

    for url in urls or ():
        if not url.startswith("http://"):
            raise UsageError(
                f"{url!r} is no page of metrics", why="it begins with http://", fix="--url http://HOST:8002/metrics"
            )
    if once or json or not sys.stdout.isatty() or _render.OUT.is_dumb_terminal:

        def wait() -> bool:
            time.sleep(interval_s)
            return True

        found = next(top(repository, urls=urls or (), wait=wait))
        if isinstance(found, ServerError):
            raise found
        _render.as_json(found) if json else _show(found)
        return
    from modelport._live import screen

    with screen(_render.OUT) as shown:
        shown.show(["reading ..."], [])
        for found in top(repository, urls=urls or (), wait=lambda: shown.wait(interval_s)):
            if isinstance(found, ServerError):
                shown.show([time.strftime("%H:%M:%S"), *str(found).splitlines()], [])
                continue
            lines = _head(found)
            tables = _fit(found, shown.height - len(lines))
            shown.show(lines, [_render.made_table("", *table, narrow=True) for table in tables])


def _show(found: View) -> None:
    _render.lines(*_head(found))
    for columns, rows in _fit(found, 10_000):
        _render.table("", columns, rows, narrow=True)


def _head(found: View) -> list[str]:
    ready = {True: "ready", False: "NOT READY", None: "readiness unknown"}[found.ready]
    restarts = f", started again {found.restarts} times" if found.restarts else ""
    rates = f"{_figure(found.requests_per_s)} req/s, {_figure(found.errors_per_s)} err/s in Triton"
    lines = [f"{time.strftime('%H:%M:%S')}  {ready}{restarts}   {rates}"]
    if found.cpu is not None:
        memory = _of(found.memory_bytes, found.memory_total_bytes)
        lines.append(f"machine  {found.cpu:.0%} of the processors, memory {memory}")
    for gpu in found.gpus:
        used = "" if gpu.used is None else f"{gpu.used:.0%} busy, "
        power = "" if gpu.power_w is None else f", {gpu.power_w:.0f} W"
        lines.append(f"GPU      {used}memory {_of(gpu.memory_bytes, gpu.memory_total_bytes)}{power}  {gpu.uuid}")
    lines += [f"away     {name}: {reason}" for name, reason in found.away.items()]
    return [*lines, _SOURCES[found.quantiles].format(found.quantiles_seconds)]


def _of(used: float | None, total: float | None) -> str:
    return f"{_render.size(int(used or 0))} of {_render.size(int(total or 0))}"


Rows = list[tuple[object, ...]]


def _fit(found: View, room: int) -> list[tuple[Sequence[str], Rows]]:
    """Columns and rows of the tables; the busiest, where there is no room for all."""
    tenants = min(len(found.tenants), max(3, (room - 2 * _TABLE) // 3))
    left = room - _TABLE - (_TABLE + tenants if found.tenants else 0)
    models: Rows = []
    for one in _busiest(found.models, [_model(one) for one in found.models], max(3, left)):
        models += one
    tables: list[tuple[Sequence[str], Rows]] = [(MODELS, models)]
    if found.tenants:
        rows = _busiest(found.tenants, [[_tenant(one)] for one in found.tenants], tenants)
        tables.append((TENANTS, [row for one in rows for row in one]))
    return tables


def _busiest(of: Sequence[Model] | Sequence[Tenant], rows: Sequence[Rows], room: int) -> list[Rows]:
    """Those with the most requests, in the order in which they came, and how many more there are."""
    if sum(map(len, rows)) <= room:
        return list(rows)
    rates = [one.seen.requests_per_s if hasattr(one, "tenant") else one.work.requests_per_s for one in of]  # type: ignore[union-attr]
    chosen: list[int] = []
    for index in sorted(range(len(rows)), key=lambda index: -rates[index]):
        if sum(len(rows[one]) for one in [*chosen, index]) >= room:
            break
        chosen.append(index)
    width = len(rows[0][0])
    more = (f"and {len(rows) - len(chosen)} quieter ones", *[""] * (width - 1))
    return [*(rows[index] for index in sorted(chosen)), [more]]


def _model(one: Model) -> Rows:
    """A line for a model; where several versions are loaded, one for each of them below."""
    version = one.serving if one.serving is not None else max(v.version for v in one.versions)
    ready = "not ready" if one.ready is False else ""
    rows: Rows = [(one.model, version, *_work(one.work, one.seen), ready)]
    if len(one.versions) > 1:
        rows[0] = (one.model, "", *rows[0][2:])
        for each in one.versions:
            share = each.work.requests_per_s / one.work.requests_per_s if one.work.requests_per_s else 0.0
            serves = ", serves" if each.version == one.serving else ""
            rows.append(("", each.version, *_work(each.work, None), f"{share:.0%}{serves}"))
    return rows


def _work(work: Work, seen: Seen | None) -> tuple[str, ...]:
    return (
        _figure(work.requests_per_s),
        _figure(work.errors_per_s),
        _figure(seen.p50_ms if seen else None),
        _figure(seen.p99_ms if seen else None),
        _figure(work.mean_ms),
        _figure(work.queue_ms),
        str(work.pending),
        _figure(work.mean_batch),
    )


def _tenant(one: Tenant) -> tuple[str, ...]:
    seen = one.seen
    rates = (seen.requests_per_s, seen.refused_per_s, seen.failed_per_s)
    return (one.tenant, *map(_figure, (*rates, seen.p50_ms, seen.p99_ms)))


def _figure(value: float | None) -> str:
    """Three digits that count, and no more than are needed."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
