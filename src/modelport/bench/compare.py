"""Two results against each other: ratios, and how sure they are.

The ratio at a load is the geometric mean over the rounds. Where both were measured in turns, each round gives one
ratio of its own, and what makes the machine slower for a while is in both of its halves; the interval is Student's t
interval of the ratios' logarithms. Where they were measured one after the other, the interval is Welch's, and it cannot
know of what changed on the machine between them. (A bootstrap of a handful of rounds would give intervals that are too
narrow: with three rounds it cannot leave the range of three values.)
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from modelport.bench import stored, summary
from modelport.bench.load import Load
from modelport.bench.perf_output import Measured
from modelport.bench.stored import Stored
from modelport.errors import UsageError

# Student's t: 97.5 % lie below it, for 1, 2, ... 30 degrees of freedom; then the normal distribution's.
T_975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
_NORMAL_975 = 1.96

RATE = "inferences/s"


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A over B.

    Attributes:
        value: Geometric mean.
        low: Lower end of the 95 % interval; None where there are too few rounds for one.
        high: Its upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def sure(self) -> bool:
        """Whether the interval leaves 1 out."""
        return self.low is not None and self.high is not None and not self.low <= 1.0 <= self.high


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One figure of both at one load.

    Attributes:
        load: The load.
        figure: `inferences/s`, more of which is better, `p50 ms` or `p99 ms`.
        a: Median of A's rounds.
        b: Of B's.
        ratio: A over B.
        better: `A` or `B` where the interval leaves 1 out; else `not shown`, or `one round`.
        notes: Why the figures at this load cannot be relied on.
    """

    load: Load
    figure: str
    a: float
    b: float
    ratio: Ratio
    better: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The whole.

    Attributes:
        a: Name of A.
        b: Name of B.
        in_turns: Whether they were measured in turns.
        rows: For each load that both have, a few: one for each figure.
        differences: What else differs between the two, in words.
    """

    a: str
    b: str
    in_turns: bool
    rows: tuple[Compared, ...]
    differences: tuple[str, ...]


def compare(a: Stored, b: Stored) -> Comparison:
    """Compare two results at the loads that both have.

    Raises:
        UsageError: They have none in common.
    """
    common = [load for load in a.loads() if load in b.loads()]
    if not common:
        raise UsageError(
            f"{a.name} and {b.name} cannot be compared",
            why="they were not measured at the same load",
            fix="measure both with the same --concurrency or --request-rate",
        )
    in_turns = a.series == b.series
    rows = tuple(row for load in common for row in _compared(load, a.runs(load), b.runs(load), in_turns=in_turns))
    names = stored.labels((a, b))
    return Comparison(a=names[0], b=names[1], in_turns=in_turns, rows=rows, differences=tuple(_differences(a, b)))


def ratio(a: dict[int, float], b: dict[int, float], *, in_turns: bool) -> Ratio:
    """A over B.

    Args:
        a: Values by round; positive.
        b: The same.
        in_turns: Whether the same round of both belongs together.
    """
    if in_turns:
        logs = [math.log(a[number] / b[number]) for number in sorted(a.keys() & b.keys())]
        middle = statistics.fmean(logs)
        if len(logs) < 2:
            return Ratio(value=math.exp(middle))
        return _interval(middle, statistics.stdev(logs) / math.sqrt(len(logs)), len(logs) - 1)
    ours, theirs = [math.log(v) for v in a.values()], [math.log(v) for v in b.values()]
    middle = statistics.fmean(ours) - statistics.fmean(theirs)
    if min(len(ours), len(theirs)) < 2:
        return Ratio(value=math.exp(middle))
    parts = [statistics.variance(values) / len(values) for values in (ours, theirs)]
    total = sum(parts)
    # Welch and Satterthwaite; without any spread the degrees do not matter.
    below = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (ours, theirs), strict=True))
    return _interval(middle, math.sqrt(total), math.floor(total**2 / below) if below else 1)


def columns(found: Comparison) -> tuple[str, ...]:
    """The headings of a table of its rows."""
    kind = found.rows[0].load.kind.replace("_", " ")
    return (kind, "figure", "A", "B", "ratio", "95% interval", "better")


def cells(row: Compared) -> tuple[str, ...]:
    """A row of the table, in the order of `columns`."""
    figures = (summary.count(row.a), summary.count(row.b)) if row.figure == RATE else map(summary.time, (row.a, row.b))
    interval = "" if row.ratio.low is None else f"{_ratio(row.ratio.low)} to {_ratio(row.ratio.high or 0)}"
    return (f"{row.load.value:g}", row.figure, *figures, _ratio(row.ratio.value), interval, row.better)


def _ratio(value: float) -> str:
    return f"{value:.3f}" if value < 100 else f"{value:,.0f}"


def remarks(found: Comparison) -> list[tuple[str, bool]]:
    """What has to be said with the figures, and whether it is a warning."""
    told = [(f"A is {found.a}, B is {found.b}.", False)]
    if found.in_turns:
        told.append(("They were measured in turns: each round gives a ratio of its own.", False))
    else:
        told.append(
            (
                "They were not measured in turns: what changed on the machine between them is in the ratios, and not "
                "in the intervals. Measure both in one command with --against.",
                True,
            )
        )
    told += [(f"They differ in {difference}.", True) for difference in found.differences]
    notes = {(note, row.load.value): f"{row.load.value:g}" for row in found.rows for note in row.notes}
    for note in dict.fromkeys(note for note, _ in notes):
        told.append((f"{note} at {', '.join(at for (x, _), at in notes.items() if x == note)}.", True))
    return told


def _interval(middle: float, error: float, freedom: int) -> Ratio:
    reach = (T_975[max(1, freedom) - 1] if freedom <= len(T_975) else _NORMAL_975) * error
    return Ratio(value=math.exp(middle), low=math.exp(middle - reach), high=math.exp(middle + reach))


def _compared(load: Load, a: dict[int, Measured], b: dict[int, Measured], *, in_turns: bool) -> Iterator[Compared]:
    notes = tuple(f"{x} is {note}" for x, runs in (("A", a), ("B", b)) for note in summary.notes(list(runs.values())))

    def row(figure: str, read: Callable[[Measured], float]) -> Compared:
        ours, theirs = ({number: read(run) for number, run in runs.items()} for runs in (a, b))
        found = ratio(ours, theirs, in_turns=in_turns)
        return Compared(
            load=load,
            figure=figure,
            a=statistics.median(ours.values()),
            b=statistics.median(theirs.values()),
            ratio=found,
            better=_better(found, more=figure == RATE),
            notes=notes,
        )

    yield row(RATE, lambda run: run.inferences_per_s)
    for percent in (50, 99):
        if all(summary.percentile_ms(list(runs.values()), percent) is not None for runs in (a, b)):
            yield row(f"p{percent} ms", _latency_ms(percent))


def _latency_ms(percent: int) -> Callable[[Measured], float]:
    return lambda run: float(getattr(run, f"p{percent}_us")) / 1000


def _better(found: Ratio, *, more: bool) -> str:
    if found.low is None:
        return "one round"
    if not found.sure:
        return "not shown"
    return "A" if (found.value > 1) == more else "B"


def _differences(a: Stored, b: Stored) -> list[str]:
    """What differs beside what was meant to; compared by name, so that a reader may judge."""
    pairs = [
        *(_pair("settings", a.settings, b.settings, ("batch_size", "interval_s", "shared_memory", "perf_analyzer"))),
        *(_pair("machine", a.circumstances.get("machine", {}), b.circumstances.get("machine", {}), ("cpu", "cores"))),
        *(_pair("target", a.target, b.target, ("inputs", "protocol", "server"))),
        *(_pair("", a.circumstances, b.circumstances, ("commit", "versions"))),
    ]
    return [f"{name}: {_short(x)} and {_short(y)}" for name, x, y in pairs if x != y]


def _pair(group: str, a: object, b: object, names: Sequence[str]) -> list[tuple[str, object, object]]:
    ours, theirs = (x if isinstance(x, dict) else {} for x in (a, b))
    return [
        (" ".join(filter(None, (group, name))).replace("_", " "), ours.get(name), theirs.get(name)) for name in names
    ]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
