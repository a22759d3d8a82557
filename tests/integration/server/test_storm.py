"""Loads and unloads from many threads at once: the last order is what holds, and nothing piles up."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest

from modelport.server import control, loading

NAMES = ("a", "b", "c", "d")
THREADS = 8


def storm(server, orders, order, locks):
    """`orders` orders from each of 8 threads, each on a model of its choice; the last one of each model."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    last = {}

    def work(thread):
        choose = random.Random(seed + thread)
        for _ in range(orders):
            name, verb = choose.choice(NAMES), choose.choice(("load", "unload"))
            with locks[name]:
                last[name] = verb
                order(name, verb)

    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(work, thread) for thread in range(THREADS)]:
            future.result()
    return last


def check(server, ask, last):
    for name, verb in last.items():
        assert server.ready_versions(name) == ((1,) if verb == "load" else ()), (name, verb)
        assert (ask(server, name, 10) == 11) == (verb == "load")


@pytest.mark.parametrize("orders", [3, pytest.param(256, marks=(pytest.mark.soak, pytest.mark.timeout(3600)))])
def test_under_a_lock_for_each_model_the_last_order_is_the_state(models, serve, ask, holding, settled, orders):
    for name in NAMES:
        models.put(name)
    server = serve()
    before = holding(server)
    last = storm(
        server,
        orders,
        lambda name, verb: getattr(server.handle, verb)(name),
        {name: threading.Lock() for name in NAMES},
    )
    check(server, ask, last)
    for name in NAMES:
        server.load(name)
    assert settled(server, before).fits(before)


@pytest.mark.parametrize("orders", [3, pytest.param(256, marks=(pytest.mark.soak, pytest.mark.timeout(3600)))])
def test_after_a_storm_without_locks_the_next_order_holds(models, serve, ask, holding, settled, orders):
    for name in NAMES:
        models.put(name)
    server = serve()
    before, handle = holding(server), server.handle
    caller = control.Control(handle.host, handle.http_port, handle.http_headers)

    def order(name, verb):
        if verb == "load":
            loading.load(f"{handle.host}:{handle.grpc_port}", handle.grpc_metadata, name, timeout_s=60)
        else:
            caller.unload(name, timeout_s=60)

    storm(server, orders, order, dict.fromkeys(NAMES, nullcontext()))
    last = dict(zip(NAMES, ("load", "unload", "load", "unload"), strict=True))
    for name, verb in last.items():
        getattr(handle, verb)(name)
    check(server, ask, last)
    for name in NAMES:
        server.load(name)
    assert settled(server, before).fits(before)
