"""Original and optimised model measured side by side, in ONNX Runtime in this process, in turns.

Threads and sessions are those that the server would use: the cores shared among the model's instances. A machine that
becomes busier half-way slows both alike, and the ratio within a round holds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelport import _cores
from modelport.bench import in_process
from modelport.bench.results import Spread, spread
from modelport.convert.runtime import onnxruntime
from modelport.convert.types import Arrays
from modelport.optimise.scoring import request

HOW = "ONNX Runtime in this process, original and optimised in turns"
BATCH = 8
CALLS = 20  # of each model in a round, at least


@dataclass(frozen=True, kw_only=True)
class Side:
    """One model's figures.

    Attributes:
        size_bytes: Of its files.
        latency_ms: The median time of one row alone.
        rows_per_s: The median rate in batches, all cores at work.
    """

    size_bytes: int
    latency_ms: float
    rows_per_s: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Both models, paired.

    Attributes:
        before: The original.
        after: The optimised one.
        smaller: Size of the original over that of the optimised model.
        faster: Latency of the original over that of the optimised model, within each round.
        more: Rows per second of the optimised model over those of the original, within each round.
        batch: Rows of a batch for the rate.
        sessions: Side by side, for the rate.
        threads: Of each session.
        rounds: In how many turns.
        how: What ran them.
        raw: Each round: latencies in ms and rates of both.
    """

    before: Side
    after: Side
    smaller: float
    faster: Spread
    more: Spread
    batch: int
    sessions: int
    threads: int
    rounds: int
    how: str
    raw: tuple[dict[str, float], ...]

    @property
    def gains(self) -> bool:
        """Whether it is smaller, or faster in each round, alone or in batches: what is not may be noise."""
        return self.smaller > 1 or self.faster.low > 1 or self.more.low > 1

    def words(self) -> tuple[str, str, str]:
        """What became of size, latency and rate: such as `2.30 x larger`, `1.20 x slower`, `1.40 x less`."""
        size = Spread(median=self.smaller, low=self.smaller, high=self.smaller)
        return size.words("smaller", "larger"), self.faster.words("faster", "slower"), self.more.words("more", "less")


def measure(
    before: Path,
    after: Path,
    inputs: Arrays,
    *,
    batched: bool,
    largest: int,
    instances: int,
    rounds: int,
    seconds: float,
    report: Callable[[str], None],
) -> Measured:
    """Measure two ONNX files in turns.

    Args:
        before: The original.
        after: The optimised one.
        inputs: Samples, rows in front; the first is used.
        batched: Whether the models take rows.
        largest: The largest batch that is served.
        instances: Of the model, when it is served.
        rounds: How often everything is measured.
        seconds: Of each model's part of a round, for latency and rate each.
        report: Called with one line at each round.
    """
    cores = _cores.usable()
    sessions = min(instances, cores)
    threads, batch = max(1, cores // sessions), min(BATCH, largest) if batched else 1
    row = request(inputs, [0], batched=batched)
    opened = [_open(path, threads) for path in (before, after)]
    for session in opened:
        session.run(None, row)
    raw: list[dict[str, float]] = []
    for number in range(rounds):
        report(f"measuring: round {number + 1} of {rounds}")
        one, two = _latencies(opened, row, seconds)
        rates = dict.fromkeys(("before", "after"), 0.0)
        for which in list(rates)[:: -1 if number % 2 else 1]:
            rates[which] = in_process.measure(
                before if which == "before" else after,
                row,
                batch=batch,
                threads=threads,
                seconds=seconds,
                sessions=sessions,
            ).rows_per_s
        raw.append(
            {
                "before_ms": one,
                "after_ms": two,
                "before_rows_per_s": rates["before"],
                "after_rows_per_s": rates["after"],
            }
        )
    return _summary(before, after, raw, batch, sessions, threads)


def _summary(
    before: Path, after: Path, raw: list[dict[str, float]], batch: int, sessions: int, threads: int
) -> Measured:
    def side(which: str, path: Path) -> Side:
        return Side(
            size_bytes=size_of(path),
            latency_ms=statistics.median(line[f"{which}_ms"] for line in raw),
            rows_per_s=statistics.median(line[f"{which}_rows_per_s"] for line in raw),
        )

    return Measured(
        before=side("before", before),
        after=side("after", after),
        smaller=size_of(before) / size_of(after),
        faster=spread(line["before_ms"] / line["after_ms"] for line in raw),
        more=spread(line["after_rows_per_s"] / line["before_rows_per_s"] for line in raw),
        batch=batch,
        sessions=sessions,
        threads=threads,
        rounds=len(raw),
        how=HOW,
        raw=tuple(raw),
    )


def size_of(artefact: Path) -> int:
    """Bytes of an ONNX file and its external data."""
    return sum(path.stat().st_size for path in artefact.parent.glob(f"{artefact.name}*"))


def _latencies(sessions: list[Any], row: Arrays, seconds: float) -> tuple[float, float]:
    """Median milliseconds of both, one call each in turns."""
    taken: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + 2 * seconds
    while len(taken[0]) < CALLS or time.perf_counter() < end:
        for session, times in zip(sessions, taken, strict=True):
            began = time.perf_counter()
            session.run(None, row)
            times.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken[0]), statistics.median(taken[1])


def _open(model: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as the server's backends have it
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
