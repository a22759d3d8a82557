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
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modelport.bench import summary
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

_COLUMNS = ("A /s", "B /s", "A / B (95 %)", "p50 A / B", "p99 A / B", "verdict")


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
    """Both at one load.

    Attributes:
        load: The load.
        rate_a: Median inferences per second of A.
        rate_b: Of B.
        rate: Ratio of the inferences per second; more is better.
        p50: Ratio of the median latencies; less is better. None where there were too few requests.
        p99: Of the 99th percentiles.
        verdict: In words.
        notes: Why the figures cannot be relied on.
    """

    load: Load
    rate_a: float
    rate_b: float
    rate: Ratio
    p50: Ratio | None
    p99: Ratio | None
    verdict: str
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The whole.

    Attributes:
        a: Name of A.
        b: Name of B.
        in_turns: Whether they were measured in turns.
        rows: One for each load that both have.
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
    rows = tuple(_compared(load, a.runs(load), b.runs(load), in_turns=in_turns) for load in common)
    return Comparison(a=a.name, b=b.name, in_turns=in_turns, rows=rows, differences=tuple(_differences(a, b)))


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
    return (found.rows[0].load.kind.replace("_", " "), *_COLUMNS)


def cells(row: Compared) -> tuple[object, ...]:
    """A row of the table, in the order of `columns`."""
    return (
        row.load.value if row.load.value % 1 else int(row.load.value),
        f"{row.rate_a:,.0f}",
        f"{row.rate_b:,.0f}",
        *("" if r is None else f"{r.value:.3f} ({interval(r)})" for r in (row.rate, row.p50, row.p99)),
        "; ".join((row.verdict, *row.notes)),
    )


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
    return told + [(f"They differ in {difference}.", True) for difference in found.differences]


def interval(found: Ratio) -> str:
    """The interval in words."""
    if found.low is None or found.high is None:
        return "one round"
    return f"{found.low:.3f} to {found.high:.3f}"


def _interval(middle: float, error: float, freedom: int) -> Ratio:
    reach = (T_975[max(1, freedom) - 1] if freedom <= len(T_975) else _NORMAL_975) * error
    return Ratio(value=math.exp(middle), low=math.exp(middle - reach), high=math.exp(middle + reach))


def _compared(load: Load, a: dict[int, Measured], b: dict[int, Measured], *, in_turns: bool) -> Compared:
    def of(read: Callable[[Measured], float]) -> Ratio:
        return ratio({n: read(m) for n, m in a.items()}, {n: read(m) for n, m in b.items()}, in_turns=in_turns)

    def latency(percent: int) -> Ratio | None:
        if any(summary.percentile_ms(list(runs.values()), percent) is None for runs in (a, b)):
            return None
        return of(lambda measured: float(getattr(measured, f"p{percent}_us")))

    rate = of(lambda measured: measured.inferences_per_s)
    noted = [(note, name) for name, runs in (("A", a), ("B", b)) for note in summary.notes(list(runs.values()))]
    kinds = dict.fromkeys(note for note, _ in noted)
    found = [f"{kind}: {', '.join(name for note, name in noted if note == kind)}" for kind in kinds]
    return Compared(
        load=load,
        rate_a=statistics.median(m.inferences_per_s for m in a.values()),
        rate_b=statistics.median(m.inferences_per_s for m in b.values()),
        rate=rate,
        p50=latency(50),
        p99=latency(99),
        verdict=_verdict(rate),
        notes=tuple(found),
    )


def _verdict(rate: Ratio) -> str:
    if rate.low is None:
        return "not known"
    if not rate.sure:
        return "no difference shown"
    return "A answers more" if rate.value > 1 else "A answers fewer"


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
