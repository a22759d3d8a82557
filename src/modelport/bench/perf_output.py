"""Read what perf_analyzer wrote: its CSV file for the percentiles, its words for what the server counted.

The CSV file has neither the number of runs, which gives the mean batch, nor what the steps of an ensemble waited for;
perf_analyzer only prints these. All times are microseconds.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass

# They sum up to the mean latency, which has a column of its own only where --percentile is not given.
_PARTS = (
    *("Client Send", "Network+Server Send/Recv", "Server Queue"),
    *("Server Compute Input", "Server Compute Infer", "Server Compute Output", "Client Recv"),
)
_SERVER = re.compile(r"^ *Server: *\n(?P<lines>(?:[ \t]+\S.*\n)+)", re.MULTILINE)
_STEP = re.compile(
    r"^ *(?P<model>[\w.-]+), version: *(?P<version>\d*) *\n(?P<lines>(?:[ \t]+[A-Z].*\n)+)", re.MULTILINE
)
_DELAYED = re.compile(r"([\d.]+)% of the requests were delayed")
_WINDOW = re.compile(r"^ *Pass \[\d+\] throughput: ([\d.e+]+) infer/sec", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Served:
    """What the server counted while it was measured.

    Attributes:
        inferences: Rows that it computed.
        executions: Runs in which it did.
        queue_us: Mean time that a request waited.
        compute_us: Mean time of computing it, copying in and out included.
    """

    inferences: int
    executions: int
    queue_us: float
    compute_us: float


@dataclass(frozen=True, kw_only=True)
class Step:
    """One model of an ensemble: its name and version, and what the server counted for it."""

    model: str
    version: str
    served: Served


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one run of perf_analyzer saw.

    Attributes:
        inferences_per_s: Rows answered each second.
        requests: Requests that were answered.
        mean_us: Mean latency; the next four are its percentiles.
        p50_us: Half of the requests took no longer.
        p90_us: 90 %.
        p95_us: 95 %.
        p99_us: 99 %.
        client_us: The mean's part in the client, for sending and receiving.
        network_us: Its part between client and queue, the server's own HTTP or gRPC work included.
        queue_us: Its part in the queue.
        compute_us: Its part in computing.
        mean_batch: Rows in one run; None for an ensemble, whose steps have their own.
        delayed_percent: How many of the requests were sent later than the rate wanted.
        windows: Inferences per second of each window that perf_analyzer measured, in order.
        steps: For an ensemble, its models.
    """

    inferences_per_s: float
    requests: int
    mean_us: float
    p50_us: float
    p90_us: float
    p95_us: float
    p99_us: float
    client_us: float
    network_us: float
    queue_us: float
    compute_us: float
    mean_batch: float | None
    delayed_percent: float = 0.0
    windows: tuple[float, ...] = ()
    steps: tuple[Step, ...] = ()


def read(table: str, words: str) -> Measured:
    """Put both together.

    Args:
        table: The text of the CSV file, written with `--verbose-csv`.
        words: What was printed, with `-v`.

    Raises:
        ValueError: Something is not there.
    """
    (row,) = csv.DictReader(io.StringIO(table))
    mean = sum(float(row[part]) for part in _PARTS)
    server = _server(words)
    steps = tuple(
        Step(model=found["model"], version=found["version"], served=_served(found["lines"]))
        for found in _STEP.finditer(words)
    )
    client = float(row["Client Send"]) + float(row["Client Recv"])
    delayed = _DELAYED.search(words)
    return Measured(
        inferences_per_s=float(row["Inferences/Second"]),
        requests=int(_number(r"Request count: (\d+)", words)),
        mean_us=mean,
        **{f"p{n}_us": float(row[f"p{n} latency"]) for n in (50, 90, 95, 99)},
        client_us=client,
        network_us=max(0.0, mean - client - server.queue_us - server.compute_us),
        queue_us=server.queue_us,
        compute_us=server.compute_us,
        mean_batch=None if steps or not server.executions else server.inferences / server.executions,
        delayed_percent=float(delayed[1]) if delayed else 0.0,
        windows=tuple(float(word) for word in _WINDOW.findall(words)),
        steps=steps,
    )


def _server(words: str) -> Served:
    found = _SERVER.search(words)
    if not found:
        raise ValueError("no figures of the server")
    return _served(found["lines"])


def _served(lines: str) -> Served:
    """The counts of the server, or of a step. With a response cache there is a part more, which is no computing."""
    times = {name: float(value) for name, value in re.findall(r"(queue|compute[ a-z]*) ([\d.]+) usec", lines)}
    if "queue" not in times:
        raise ValueError("no queue time among the server's figures")
    return Served(
        inferences=int(_number(r"Inference count: (\d+)", lines)),
        executions=int(_number(r"Execution count: (\d+)", lines)),
        queue_us=times.pop("queue"),
        compute_us=sum(times.values()),
    )


def _number(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if not found:
        raise ValueError(f"nothing like {pattern!r}")
    return found[1]
