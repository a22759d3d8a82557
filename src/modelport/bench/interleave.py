"""Measure several servers side by side: all of them stay up, and their runs take turns.

A machine that becomes slower or busier half-way then slows all of them down alike, and ratios within one round hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from modelport.bench import wrk
from modelport.bench.requests import Request
from modelport.bench.results import Spread, spread
from modelport.bench.wrk import Load


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server and the request it is measured with.

    Attributes:
        url: Base URL.
        request: The request.
    """

    url: str
    request: Request


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of one server.

    Attributes:
        server: Its name.
        round: From 0.
        load: What was seen.
    """

    server: str
    round: int
    load: Load


def measure(
    targets: Mapping[str, Target],
    *,
    clients: Sequence[int],
    seconds: int,
    rounds: int,
    report: Callable[[Run], None] = lambda run: None,
) -> list[Run]:
    """Warm all servers up for a second each, then measure them in turns.

    Args:
        targets: Server name to what is measured.
        clients: Numbers of clients; each is measured in each round.
        seconds: Length of each run.
        rounds: How often everything is repeated.
        report: Called after each run.

    Raises:
        ProcessError: A run had errors.
    """
    for target in targets.values():
        wrk.measure(target.url, target.request, clients=max(clients), seconds=1)
    runs = []
    for number in range(rounds):
        for count in clients:
            for name, target in targets.items():
                load = wrk.measure(target.url, target.request, clients=count, seconds=seconds)
                runs.append(Run(server=name, round=number, load=load))
                report(runs[-1])
    return runs


def rates(runs: Iterable[Run], server: str, clients: int) -> list[float]:
    """Requests per second of one server at a number of clients, in the order of the rounds."""
    return [run.load.requests_per_s for run in runs if run.server == server and run.load.clients == clients]


def ratio(runs: Sequence[Run], server: str, peer: str, clients: int) -> Spread:
    """The server's rate over the peer's, within each round."""
    pairs = zip(rates(runs, server, clients), rates(runs, peer, clients), strict=True)
    return spread(ours / theirs for ours, theirs in pairs)


def rows(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """The runs for a result file."""
    return [{"server": run.server, "round": run.round, **asdict(run.load)} for run in runs]
