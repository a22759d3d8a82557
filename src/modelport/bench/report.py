"""The report of one or more results: a single HTML file with tables and pictures in it, which loads nothing."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelport.bench import charts, compare, summary
from modelport.bench.compare import Comparison
from modelport.bench.results import replace
from modelport.bench.stored import Stored, labels
from modelport.bench.summary import Point
from modelport.pages.page import Part, Text, render


def write(path: Path, results: Sequence[Stored], comparison: Comparison | None = None) -> None:
    """Write the page; under a temporary name first.

    Args:
        path: The HTML file; its folder is made.
        results: What was measured, one or more.
        comparison: The first two against each other, where there are two.
    """
    replace(path, page(results, comparison))


def page(results: Sequence[Stored], comparison: Comparison | None = None) -> str:
    """The page's text."""
    named = dict(zip(labels(results), results, strict=True))
    series = {name: summary.points(stored) for name, stored in named.items()}
    title = " and ".join(series)
    parts = [Part(heading="Latency and throughput", pictures=_curves(series))]
    parts += [_compared(comparison)] if comparison is not None else []
    parts += [_target(name, stored, series[name]) for name, stored in named.items()]
    parts += [_conditions(name, stored) for name, stored in named.items()]
    time = str(results[0].circumstances.get("time", ""))
    return render(title, f"Measured with perf_analyzer, {time}. Figures are medians over the rounds.", parts)


def _curves(series: Mapping[str, Sequence[Point]]) -> list[str]:
    return [charts.latency_over_rate(series), charts.rate_over_load(series)]


def _target(name: str, stored: Stored, points: Sequence[Point]) -> Part:
    texts = [Text(words=words, warning=True) for words in summary.warnings(stored)]
    note = (
        "Times are milliseconds. The mean latency is what client (sending, receiving), network (between client and "
        "queue, the server's own protocol work included), queue and compute take. Percentiles with fewer than "
        f"{summary.ENOUGH_REQUESTS} requests beyond them in a run are left out."
    )
    return Part(
        heading=name,
        texts=[*texts, Text(words=note)],
        pictures=[charts.time_parts(points)],
        columns=summary.columns(points),
        rows=[summary.cells(point) for point in points],
    )


def _compared(found: Comparison) -> Part:
    return Part(
        heading="A against B",
        texts=[Text(words=words, warning=warning) for words, warning in compare.remarks(found)],
        pictures=[charts.ratios(found.rows)],
        columns=compare.columns(found),
        rows=[compare.cells(row) for row in found.rows],
    )


def _conditions(name: str, stored: Stored) -> Part:
    about = stored.circumstances
    facts = {
        "command": shlex.join(map(str, about.get("command", ()))),
        "perf_analyzer": shlex.join(map(str, stored.settings.get("perf_analyzer_command", ()))),
        **{name: about.get(name) for name in ("time", "commit", "machine", "versions")},
        "target": {name: value for name, value in stored.target.items() if name != "config"},
        "config": stored.target.get("config"),
        "settings": {k: v for k, v in stored.settings.items() if k != "perf_analyzer_command"},
    }
    rows = [(fact.replace("_", " "), words) for fact, value in facts.items() if (words := _words(value))]
    return Part(heading=f"How {name} was measured", rows=rows, facts=True)


def _words(value: Any) -> str:
    """A value for people; what is empty is left out."""
    if isinstance(value, Mapping):
        told = {name.replace("_", " "): words for name, item in value.items() if (words := _words(item))}
        return "; ".join(f"{name}: {words}" for name, words in told.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(
            f"({words})" if isinstance(item, Mapping) else words for item in value if (words := _words(item))
        )
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None or value is False else str(value)
