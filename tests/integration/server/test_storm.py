"""B3: loads and unloads from many threads at once; the last order is what holds, and nothing piles up."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

NAMES = ("a", "b", "c", "d")
THREADS = 8


@pytest.mark.parametrize("orders", [3, pytest.param(256, marks=(pytest.mark.soak, pytest.mark.timeout(3600)))])
def test_after_a_storm_the_last_order_of_each_model_is_its_state(models, serve, ask, holding, settled, orders):
    """Without the turns that the handle keeps, Triton dies of it: see `modelport.server.orders`."""
    for name in NAMES:
        models.put(name)
    server = serve()
    before, seed = holding(server), random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")

    def work(thread):
        choose = random.Random(seed + thread)
        for _ in range(orders):
            verb = choose.choice(("load", "unload"))
            getattr(server.handle, verb)(choose.choice(NAMES), timeout_s=300)

    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(work, thread) for thread in range(THREADS)]:
            future.result()
    for name, verb in zip(NAMES, ("load", "unload", "load", "unload"), strict=True):
        getattr(server.handle, verb)(name)
        assert server.ready_versions(name) == ((1,) if verb == "load" else ())
        assert (ask(server, name, 10) == 11) == (verb == "load")
    for name in NAMES:
        server.load(name)
    assert settled(server, before).fits(before)


@pytest.mark.parametrize("orders", [3, pytest.param(64, marks=(pytest.mark.soak, pytest.mark.timeout(3600)))])
def test_the_last_of_many_orders_that_took_turns_holds(models, serve, ask, orders):
    """The order in which they took turns is known here, so the state can be compared with the last one itself."""
    for name in NAMES:
        models.put(name)
    server = serve()
    locks, last, seed = {name: threading.Lock() for name in NAMES}, {}, random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")

    def work(thread):
        choose = random.Random(seed + thread)
        for _ in range(orders):
            name, verb = choose.choice(NAMES), choose.choice(("load", "unload"))
            with locks[name]:
                last[name] = verb
                getattr(server.handle, verb)(name)

    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(work, thread) for thread in range(THREADS)]:
            future.result()
    for name, verb in last.items():
        assert server.ready_versions(name) == ((1,) if verb == "load" else ()), (name, verb)
        assert (ask(server, name, 10) == 11) == (verb == "load")


def test_an_unload_waits_for_the_load_that_came_before_it(models, serve):
    models.put("other")
    models.python("slow", 1, initialize="time.sleep(2)")
    models.config("slow", [1], backend="python")
    server = serve(models=["other"])
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(server.load, "slow")
        time.sleep(0.5)
        server.unload("slow")
        assert slow.done() and slow.result() == (1,)
    assert server.ready_versions("slow") == ()
