"""What the repeated runs of one target say: the middle of each figure, and whether it can be relied on."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from modelport.bench.load import Load
from modelport.bench.perf_output import Measured
from modelport.bench.results import Spread, spread
from modelport.bench.stored import Stored

ENOUGH_REQUESTS = 10  # beyond a percentile, in each run: fewer say little about it
_DELAYED = 1.0  # percent of the requests that may be sent late before the rate was not what was asked for

_COLUMNS = (
    *("inferences/s", "range", "p50", "p90", "p95", "p99"),
    *("client", "network", "queue", "compute", "mean batch"),
)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One target at one load, over all rounds. Times are milliseconds, medians over the rounds.

    Attributes:
        load: The load.
        rate: Inferences per second.
        p50_ms: Half of the requests took no longer; then 90, 95, 99 %. None where too few requests lie beyond.
        p90_ms: See p50_ms.
        p95_ms: See p50_ms.
        p99_ms: See p50_ms.
        client_ms: The mean latency's part in the client.
        network_ms: Its part between client and queue.
        queue_ms: Its part in the queue.
        compute_ms: Its part in computing.
        mean_batch: Rows in one run of the model; None for an ensemble.
        rounds: How many runs.
        notes: Why it cannot be relied on; empty where it can.
    """

    load: Load
    rate: Spread
    p50_ms: float | None
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    client_ms: float
    network_ms: float
    queue_ms: float
    compute_ms: float
    mean_batch: float | None
    rounds: int
    notes: tuple[str, ...] = ()


def points(stored: Stored) -> list[Point]:
    """A point for each load, in the order of their size."""
    return [_point(load, list(stored.runs(load).values())) for load in stored.loads()]


def columns(points: Sequence[Point]) -> tuple[str, ...]:
    """The headings of a table of points; its times are milliseconds."""
    return (points[0].load.kind.replace("_", " "), *_COLUMNS)


def cells(point: Point) -> tuple[str, ...]:
    """A row of the table, in the order of `columns`."""
    rate = point.rate
    times = (point.p50_ms, point.p90_ms, point.p95_ms, point.p99_ms)
    parts = (point.client_ms, point.network_ms, point.queue_ms, point.compute_ms)
    return (
        f"{point.load.value:g}",
        count(rate.median),
        f"{(rate.high - rate.low) / rate.median:.0%}" if point.rounds > 1 else "",
        *("" if value is None else time(value) for value in times + parts),
        "" if point.mean_batch is None else f"{point.mean_batch:.2f}",
    )


def warnings(stored: Stored) -> list[str]:
    """What a reader has to know before the figures: which cannot be relied on, and whether it was ended early."""
    found = points(stored)
    notes = dict.fromkeys(note for point in found for note in point.notes)
    told = [f"{note} at {', '.join(f'{p.load.value:g}' for p in found if note in p.notes)}" for note in notes]
    told += [f"stopped {stored.settings['stopped']}"] if "stopped" in stored.settings else []
    return [f"{words[0].upper()}{words[1:]}." for words in told]


def count(value: float) -> str:
    """Inferences per second in words."""
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def time(value: float) -> str:
    """Milliseconds in words, two or three digits of them."""
    return f"{value:.{3 if value < 0.1 else 2 if value < 10 else 1 if value < 100 else 0}f}"


def notes(runs: Sequence[Measured]) -> tuple[str, ...]:
    """Why the runs at one load cannot be relied on."""
    found = []
    if len(runs) > 1 and spread(run.inferences_per_s for run in runs).unstable:
        found.append("unstable")
    if max(run.delayed_percent for run in runs) > _DELAYED:
        found.append("rate not reached")
    return tuple(found)


def percentile_ms(runs: Sequence[Measured], percent: int) -> float | None:
    """The median over the rounds of one percentile; None where too few requests lie beyond it."""
    if min(run.requests for run in runs) * (100 - percent) / 100 < ENOUGH_REQUESTS:
        return None
    return _middle_ms(runs, f"p{percent}_us")


def _point(load: Load, runs: Sequence[Measured]) -> Point:
    batches = [run.mean_batch for run in runs if run.mean_batch is not None]
    parts = {f"{part}_ms": _middle_ms(runs, f"{part}_us") for part in ("client", "network", "queue", "compute")}
    return Point(
        load=load,
        rate=spread(run.inferences_per_s for run in runs),
        p50_ms=percentile_ms(runs, 50),
        p90_ms=percentile_ms(runs, 90),
        p95_ms=percentile_ms(runs, 95),
        p99_ms=percentile_ms(runs, 99),
        **parts,
        mean_batch=statistics.median(batches) if batches else None,
        rounds=len(runs),
        notes=notes(runs),
    )


def _middle_ms(runs: Sequence[Measured], name: str) -> float:
    return statistics.median(float(getattr(run, name)) for run in runs) / 1000
