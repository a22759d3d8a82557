"""A small simulation of clients, Triton's dynamic batcher and the cores that they share: microseconds for minutes.

The batcher is Triton's (core/src/dynamic_batch_scheduler.cc, `GetDynamicBatch`): it fills a payload as long as no
instance has begun with it, ends it at the preferred size, and keeps at most two waiting for each instance. The cores
are shared evenly among all that want to run, as Linux does. Times are microseconds.
"""

from __future__ import annotations

import functools
import heapq
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from modelport.bench.tuning.space import Setting

_SLOTS = 2  # payloads that wait for each instance
_REQUESTS = 300  # that are looked at; at least so many rounds of all clients:
_ROUNDS = 8
_WARM_ROUNDS = 3
_LUCK = 4096  # times that vary, which are used one after the other, round and round
_PERCENTS = (50, 90, 95, 99)
_ENTER, _LEAVE, _RUN = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a request and a run cost.

    Attributes:
        run_us: Batch size to the time of one run on free cores, for each number of threads; between the sizes the line
            holds, and beyond the last one its slope.
        request_us: Processor time of a request beside the model's: client, sockets, protocol.
        batch_us: Processor time of a run beside the model's.
        wait_us: Time of a request in which nobody works for it: threads that wake up.
        jitter: By which part of itself a time varies (its standard deviation).
    """

    run_us: Mapping[int, Mapping[int, float]]
    request_us: float = 0.0
    batch_us: float = 0.0
    wait_us: float = 0.0
    jitter: float = 0.2

    def run(self, rows: int, threads: int) -> float:
        """The time of one run."""
        return self.batch_us + _line(self.run_us[threads], rows)


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """What a simulation, or a measurement, says of a setting at one load.

    Attributes:
        rate: Requests answered each second.
        latency_us: Percent to the latency that so many requests do not exceed.
        mean_batch: Requests in one run.
    """

    rate: float
    latency_us: Mapping[int, float]
    mean_batch: float


def simulate(
    setting: Setting,
    costs: Costs,
    *,
    clients: int,
    cores: int,
    largest: int = 0,
    requests: int = _REQUESTS,
    seed: int = 0,
) -> Predicted:
    """Let clients ask, each again as soon as it has its answer.

    Args:
        setting: How the model is served.
        costs: What it costs.
        clients: How many they are.
        cores: Cores that all of it shares.
        largest: The model's `max_batch_size`; by default the setting's batch.
        requests: How many answers are looked at, at least.
        seed: Of the variation; the same seed gives the same result.
    """
    return _Simulation(setting, costs, clients, cores, max(largest, setting.batch, 1), seed).run(requests)


def _line(known: Mapping[int, float], rows: int) -> float:
    """The value at a size: between two known sizes on the line through them, beyond the last with its slope."""
    if rows in known:
        return known[rows]
    sizes = sorted(known)
    if len(sizes) == 1:
        return known[sizes[0]] * rows / sizes[0]
    at = next((n for n, size in enumerate(sizes) if size > rows), len(sizes) - 1)
    low, high = sizes[max(0, at - 1)], sizes[max(1, at)]
    return max(0.0, known[low] + (known[high] - known[low]) * (rows - low) / (high - low))


@dataclass
class _Payload:
    """Requests that will run together: their clients."""

    clients: list[int] = field(default_factory=list)
    full: bool = False
    began_us: float = 0.0


class _Simulation:
    """The state of one simulation; `work` counts how much each running job has got so far."""

    def __init__(self, setting: Setting, costs: Costs, clients: int, cores: int, largest: int, seed: int) -> None:
        self.setting, self.costs, self.cores, self.largest = setting, costs, cores, largest
        self.batch = max(1, setting.batch)
        self.threads = max(1, setting.threads)
        self.now = self.work = 0.0
        self.demand = 0
        # Work at its end, number, kind, client, payload.
        self.jobs: list[tuple[float, int, int, int, _Payload | None]] = []
        self.timers: list[tuple[float, int]] = []
        self.queue: deque[tuple[int, float]] = deque()  # client, since when
        self.waiting: deque[_Payload] = deque()
        self.idle = setting.instances
        self.number = 0
        self.luck = _luck(costs.jitter, seed)
        self.clients = clients
        self.asked = [0.0] * clients
        self.done: list[tuple[float, float]] = []  # when, latency
        self.batches: list[int] = []

    def run(self, requests: int) -> Predicted:
        for client in range(self.clients):
            self.ask(client)
        warm = _WARM_ROUNDS * self.clients
        wanted = warm + max(requests, _ROUNDS * self.clients)
        while len(self.done) < wanted:
            self.step()
        seen = self.done[warm:]
        latencies = sorted(latency for _, latency in seen)
        seconds = (seen[-1][0] - self.done[warm - 1][0]) / 1e6
        return Predicted(
            rate=len(seen) / seconds if seconds else float("inf"),
            latency_us={p: latencies[min(len(latencies) - 1, len(latencies) * p // 100)] for p in _PERCENTS},
            mean_batch=sum(self.batches) / max(1, len(self.batches)),
        )

    def step(self) -> None:
        """Go on to the next thing that happens."""
        share = min(1.0, self.cores / self.demand) if self.demand else 1.0
        ends = self.now + (self.jobs[0][0] - self.work) / share if self.jobs else float("inf")
        if self.timers and self.timers[0][0] <= ends:
            self.advance(max(self.now, self.timers[0][0]), share)
            _, client = heapq.heappop(self.timers)
            if client >= 0:
                self.queue.append((client, self.now))
            self.fill()
            return
        self.advance(ends, share)
        _, _, kind, client, payload = heapq.heappop(self.jobs)
        self.demand -= self.threads if kind == _RUN else 1
        if kind == _ENTER:
            heapq.heappush(self.timers, (self.now + self.costs.wait_us, client))
        elif kind == _LEAVE:
            self.done.append((self.now, self.now - self.asked[client]))
            self.ask(client)
        elif payload is not None:
            self.idle += 1
            for one in payload.clients:
                self.start(_LEAVE, self.costs.request_us / 2, one)
            self.fill()

    def advance(self, until_us: float, share: float) -> None:
        self.work += (until_us - self.now) * share if self.demand else 0.0
        self.now = until_us

    def ask(self, client: int) -> None:
        self.asked[client] = self.now
        self.start(_ENTER, self.costs.request_us / 2, client)

    def start(self, kind: int, mean_us: float, client: int, payload: _Payload | None = None) -> None:
        self.number += 1
        self.demand += self.threads if kind == _RUN else 1
        ends = self.work + mean_us * self.luck[self.number % _LUCK]
        heapq.heappush(self.jobs, (ends, self.number, kind, client, payload))

    def fill(self) -> None:
        """Form payloads of what waits, and let idle instances run them."""
        while True:
            while self.idle and self.waiting:
                self.execute(self.waiting.popleft())
            if not self.queue:
                return
            payload = self.waiting[-1] if self.waiting and not self.waiting[-1].full else None
            if payload is None and len(self.waiting) >= _SLOTS * self.setting.instances:
                return
            taken = self.take(len(payload.clients) if payload else 0)
            if not taken:
                return
            if payload is None:
                payload = _Payload(began_us=self.queue[0][1])
                self.waiting.append(payload)
            payload.clients += [self.queue.popleft()[0] for _ in range(taken)]
            payload.full = len(payload.clients) >= self.batch

    def take(self, has: int) -> int:
        """How many more requests go into a payload that has some now; 0: it waits for more."""
        room = min(len(self.queue), self.largest - has)
        late = self.setting.delay_us and self.now - self.queue[0][1] >= self.setting.delay_us - 1e-6
        if has < self.batch <= has + room and not late:
            return self.batch - has
        if has + room >= self.batch or late or not self.setting.delay_us:
            return room
        heapq.heappush(self.timers, (self.queue[0][1] + self.setting.delay_us, -1))
        return 0

    def execute(self, payload: _Payload) -> None:
        while self.setting.delay_us and self.waiting and not payload.full and self.mergeable(payload, self.waiting[0]):
            payload.clients += self.waiting.popleft().clients
        self.idle -= 1
        self.batches.append(len(payload.clients))
        self.start(_RUN, self.costs.run(len(payload.clients), self.setting.threads), -1, payload)

    def mergeable(self, first: _Payload, second: _Payload) -> bool:
        """Triton joins waiting payloads that have waited longer than the delay."""
        fits = len(first.clients) + len(second.clients) <= self.largest
        return fits and not second.full and self.now - second.began_us > self.setting.delay_us


@functools.cache
def _luck(jitter: float, seed: int) -> list[float]:
    """Factors around 1 with this standard deviation, gamma distributed: exponential for 1, all alike for 0."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    factors = [draw.gammavariate(1 / jitter**2, jitter**2) if jitter else 1.0 for _ in range(_LUCK)]
    mean = sum(factors) / _LUCK
    return [factor / mean for factor in factors]
