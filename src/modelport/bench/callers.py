"""Callers in Python: a function that sends one request, called over and over by a number of threads."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence

from modelport.bench import usage
from modelport.bench.wrk import Load


def drive(calls: Sequence[Callable[[], object]], *, seconds: float) -> tuple[Load, float]:
    """Call each function over and over in a thread of its own.

    Args:
        calls: One for each thread; each sends one request and waits for its answer.
        seconds: How long.

    Returns:
        The load, and the microseconds of this process's time for each request.

    Raises:
        Exception: What a call raised, after all threads have ended.
    """
    latencies: list[list[float]] = [[] for _ in calls]
    errors: list[BaseException] = []

    def loop(call: Callable[[], object], times: list[float]) -> None:
        try:
            call()  # connects
            while (now := time.perf_counter()) < end:
                call()
                times.append(time.perf_counter() - now)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=loop, args=pair) for pair in zip(calls, latencies, strict=True)]
    used, began = usage.own_s(), time.perf_counter()
    end = began + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took, used = time.perf_counter() - began, usage.own_s() - used
    if errors:
        raise errors[0]
    times = sorted(time for one in latencies for time in one)
    load = Load(
        clients=len(calls),
        seconds=took,
        requests=len(times),
        requests_per_s=len(times) / took,
        p50_ms=1e3 * statistics.median(times),
        p99_ms=1e3 * times[int(0.99 * (len(times) - 1))],
    )
    return load, 1e6 * used / len(times)
