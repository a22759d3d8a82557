"""The pictures of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import LogLocator

from modelport.bench.compare import RATE, Compared
from modelport.bench.load import REQUEST_RATE
from modelport.bench.summary import Point
from modelport.pages.pictures import COLOURS, GRID, picture

PARTS = {"client": "#999999", "network": "#56B4E9", "queue": "#E69F00", "compute": "#009E73"}

Series = Mapping[str, Sequence[Point]]


def latency_over_rate(series: Series) -> str:
    """Latency against throughput: a line for p50 and one for p99 of each target, with the load at each point."""

    def draw(axes: Any) -> None:
        for (name, points), colour in zip(series.items(), COLOURS, strict=False):
            for percent, style in ((50, "-"), (99, ":")):
                known = [(p, value) for p in points if (value := getattr(p, f"p{percent}_ms")) is not None]
                if not known:
                    continue
                axes.plot(
                    [p.rate.median for p, _ in known],
                    [value for _, value in known],
                    style,
                    marker="o",
                    markersize=4,
                    color=colour,
                    label=f"{name}, p{percent}",
                )
                if percent == 50:
                    for p, value in known:
                        axes.annotate(f"{p.load.value:g}", (p.rate.median, value), (3, -11), textcoords="offset points")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        axes.set_xlim(left=0)
        axes.set_xlabel("inferences per second")
        axes.set_ylabel("latency, ms")
        axes.legend(frameon=False) if axes.lines else None

    return picture(draw, f"Latency against throughput; the numbers are the {_kind(series)}")


def rate_over_load(series: Series) -> str:
    """Throughput against load, with the range of the rounds."""

    def draw(axes: Any) -> None:
        for (name, points), colour in zip(series.items(), COLOURS, strict=False):
            middle = [p.rate.median for p in points]
            reach = [[p.rate.median - p.rate.low for p in points], [p.rate.high - p.rate.median for p in points]]
            loads = [p.load.value for p in points]
            axes.errorbar(loads, middle, yerr=reach, marker="o", markersize=4, capsize=3, color=colour, label=name)
        _loads(axes, series)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("inferences per second")
        axes.legend(frameon=False)

    return picture(draw, "Throughput against load; the bars are the range of the rounds")


def time_parts(points: Sequence[Point]) -> str:
    """Where the mean latency goes, for each load of one target."""

    def draw(axes: Any) -> None:
        names = [f"{p.load.value:g}" for p in points]
        below = [0.0] * len(points)
        for part, colour in PARTS.items():
            heights = [getattr(p, f"{part}_ms") for p in points]
            axes.bar(names, heights, bottom=below, color=colour, label=part, width=0.6)
            below = [low + height for low, height in zip(below, heights, strict=True)]
        axes.set_xlabel(_kind({"": points}))
        axes.set_ylabel("mean latency, ms")
        axes.legend(frameon=False)

    return picture(draw, "Where the time goes")


def ratios(rows: Sequence[Compared]) -> str:
    """A over B in inferences per second at each load, with the 95 % intervals."""

    def draw(axes: Any) -> None:
        found = [(row.load, row.ratio) for row in rows if row.figure == RATE]
        values = [ratio.value for _, ratio in found]
        low = [ratio.value - (ratio.low or ratio.value) for _, ratio in found]
        high = [(ratio.high or ratio.value) - ratio.value for _, ratio in found]
        axes.axhline(1.0, color=GRID, linewidth=2)
        axes.errorbar(range(len(found)), values, yerr=[low, high], fmt="o", capsize=4, color=COLOURS[0])
        axes.set_xticks(range(len(found)), [f"{load.value:g}" for load, _ in found])
        axes.set_xlabel(rows[0].load.kind.replace("_", " "))
        axes.set_ylabel("A / B, inferences per second")

    return picture(draw, "A over B, with the 95 % intervals")


def _loads(axes: Any, series: Series) -> None:
    """The axis of the loads: powers of two where they span much."""
    values = sorted({p.load.value for points in series.values() for p in points})
    if len(values) > 1 and values[-1] / values[0] >= 8:
        axes.set_xscale("log", base=2)
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.set_xlabel(_kind(series))


def _kind(series: Series) -> str:
    kind = next((p.load.kind for points in series.values() for p in points), "")
    return "requests per second" if kind == REQUEST_RATE else "number of concurrent requests"
