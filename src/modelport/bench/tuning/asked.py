"""What `modelport tune` is asked for, all of it checked before anything starts."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from modelport.bench.load import loads
from modelport.bench.places import HTTP, PROTOCOLS
from modelport.bench.tuning.goal import OBJECTIVES, PERCENTS, THROUGHPUT, Goal
from modelport.errors import ModelportError, UsageError
from modelport.repository.layout import DEFAULT_REPOSITORY, parse_reference

CONCURRENCY = "1,8,32"
TARGETS = {"": "", "cpu": "KIND_CPU", "gpu": "KIND_GPU"}
CONFIG = "config"
_BESIDE = re.compile(r"configs/([A-Za-z0-9][A-Za-z0-9_-]{0,62})\.pbtxt")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked for.

    Attributes:
        reference: NAME, or NAME/VERSION.
        repository: Folder of the model repository.
        objective: `throughput` or `latency`.
        budget_ms: Milliseconds that the latency may have; None for any.
        percent: Which latency: so many percent of the requests do not exceed it.
        concurrency: Numbers of clients, such as `32` or `1,8,32`; with several, each counts alike.
        target: `cpu` or `gpu`; empty for where the configuration has it run.
        protocol: `http` or `grpc`.
        max_measurements: Runs of perf_analyzer; 0 for a tenth of what a full sweep would take.
        repeats: Rounds in which the best settings and the present one take turns.
        interval_s: Seconds of one window; each run takes three.
        write: Where to write the best setting: `config`, or `configs/NAME.pbtxt`; empty for nowhere.
    """

    reference: str
    repository: Path = DEFAULT_REPOSITORY
    objective: str = THROUGHPUT
    budget_ms: float | None = None
    percent: int = 99
    concurrency: str = CONCURRENCY
    target: str = ""
    protocol: str = HTTP
    max_measurements: int = 0
    repeats: int = 3
    interval_s: float = 1.0
    write: str = ""

    @property
    def clients(self) -> tuple[int, ...]:
        """The numbers of clients."""
        return tuple(int(load.value) for load in loads(concurrency=self.concurrency, request_rate=None))

    @property
    def goal(self) -> Goal:
        """What is wanted."""
        budget_us = None if self.budget_ms is None else self.budget_ms * 1000
        return Goal(objective=self.objective, budget_us=budget_us, percent=self.percent)

    @property
    def kind(self) -> str:
        """The kind of instances."""
        return TARGETS[self.target]

    @property
    def beside(self) -> str:
        """The name in `configs/NAME.pbtxt`; empty where that is not what is written."""
        found = _BESIDE.fullmatch(self.write)
        return found[1] if found else ""


def check(asked: Asked) -> None:
    """Check everything that can be seen without a server.

    Raises:
        UsageError: All that cannot be right, together.
        InvalidNameError: The reference is none.
    """
    parse_reference(asked.reference)
    problems = _wrong(asked)
    try:
        _ = asked.clients
    except ModelportError as exc:
        problems.append((exc.what, exc.why, exc.fix))
    if problems:
        raise UsageError(*_joined(problems, 0), why=_joined(problems, 1)[0], fix=_joined(problems, 2)[0])


def _joined(problems: list[tuple[str, str, str]], part: int) -> tuple[str]:
    return ("; ".join(problem[part] for problem in problems),)


def _wrong(asked: Asked) -> list[tuple[str, str, str]]:
    """What is wrong with single values: what, why, and what to do."""
    found = []
    words = (
        ("--objective", asked.objective, OBJECTIVES),
        ("--protocol", asked.protocol, PROTOCOLS),
        ("--target", asked.target, tuple(TARGETS)),
        ("--percentile", asked.percent, PERCENTS),
    )
    for option, value, known in words:
        if value not in known:
            allowed = ", ".join(str(word) for word in known if word)
            found.append((f"{option} {value!r} is not known", f"it is one of {allowed}", "give one of these"))
    if asked.budget_ms is not None and not (asked.budget_ms > 0 and math.isfinite(asked.budget_ms)):
        found.append((f"--latency-budget-ms {asked.budget_ms:g} cannot be used", "it is above 0", "give 20 or so"))
    if asked.repeats < 1 or asked.max_measurements < 0:
        found.append(("--repeats or --max-measurements cannot be used", "they count runs", "give 1 or more"))
    if not 0.001 <= asked.interval_s <= 3600:
        found.append((f"--interval {asked.interval_s:g} cannot be used", "it is 0.001 to 3600 s", "give 1 or so"))
    if asked.write not in ("", CONFIG) and not asked.beside:
        found.append(
            (
                f"--write {asked.write!r} is no place for a setting",
                "it is `config`, for the config.pbtxt that is served, or `configs/NAME.pbtxt` beside it",
                "give one of these, or leave it out to write nothing",
            )
        )
    return found
