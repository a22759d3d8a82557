"""The simulation against cases whose result is known by arithmetic."""

from __future__ import annotations

import math

import pytest

from modelport.bench.tuning.simulate import Costs, simulate
from modelport.bench.tuning.space import Setting

PLENTY = 1000  # cores


def costs(run_us, **others):
    return Costs(run_us={1: run_us}, **{"jitter": 0.0, **others})


def setting(instances=1, threads=1, batch=1, delay_us=0):
    return Setting(instances=instances, threads=threads, batch=batch, delay_us=delay_us)


def test_one_client_waits_for_one_request_after_the_other():
    seen = simulate(setting(), costs({1: 100.0}, request_us=50, batch_us=20, wait_us=30), clients=1, cores=2)
    assert seen.rate == pytest.approx(1e6 / 200)
    assert seen.latency_us == pytest.approx({50: 200, 90: 200, 95: 200, 99: 200})


@pytest.mark.parametrize(("instances", "cores", "runs"), [(1, 2, 1), (2, 2, 2), (2, 1, 1), (4, 2, 2)])
def test_without_batching_instances_and_cores_bound_the_rate(instances, cores, runs):
    seen = simulate(setting(instances), costs({1: 100.0}), clients=16, cores=cores)
    assert seen.rate == pytest.approx(runs * 1e6 / 100, rel=0.01)
    assert seen.latency_us[50] == pytest.approx(16 * 100 / runs, rel=0.01)  # Little's law


def test_full_batches_bound_the_rate_by_the_time_of_a_full_batch():
    seen = simulate(setting(batch=8), costs({1: 110.0, 8: 180.0}), clients=64, cores=PLENTY)
    assert seen.mean_batch == pytest.approx(8, rel=0.05)
    assert seen.rate == pytest.approx(8 * 1e6 / 180, rel=0.05)


def test_an_idle_instance_takes_the_first_request_alone_and_the_others_then():
    """All clients ask again at once: batches of one and of the rest follow each other."""
    seen = simulate(setting(batch=32), costs({1: 110.0, 32: 420.0}), clients=4, cores=PLENTY)
    assert seen.mean_batch == pytest.approx(2, rel=0.01)
    assert seen.rate == pytest.approx(4 * 1e6 / (110 + 130), rel=0.01)


@pytest.mark.parametrize("clients", [2, 6, 20])
def test_random_times_give_the_rate_of_the_machine_repair_model(clients):
    """Exponential service, one instance, thinking clients, cores enough: the closed M/M/1//N queue, whose rate depends
    on thinking times by their mean only."""
    service, think = 100.0, 500.0
    seen = simulate(
        setting(),
        costs({1: service}, request_us=think, jitter=1.0),
        clients=clients,
        cores=PLENTY,
        requests=6000,
    )
    ways = [math.factorial(clients) / math.factorial(clients - n) * (service / think) ** n for n in range(clients + 1)]
    assert seen.rate == pytest.approx((1 - ways[0] / sum(ways)) * 1e6 / service, rel=0.04)


def test_threads_take_as_many_cores():
    made = Costs(run_us={2: {1: 100.0}}, jitter=0.0)
    two = setting(instances=2, threads=2)
    assert simulate(two, made, clients=8, cores=4).rate == pytest.approx(2 * 1e6 / 100, rel=0.01)
    assert simulate(two, made, clients=8, cores=2).rate == pytest.approx(1e6 / 100, rel=0.01)


def test_work_beside_the_model_takes_its_part_of_the_cores():
    seen = simulate(setting(instances=2), costs({1: 100.0}, request_us=60), clients=32, cores=2)
    assert seen.rate == pytest.approx(2 * 1e6 / 160, rel=0.02)


def test_a_lone_request_waits_for_the_whole_delay():
    seen = simulate(setting(batch=8, delay_us=500), costs({1: 100.0, 8: 200.0}), clients=1, cores=2)
    assert seen.latency_us[50] == pytest.approx(600)


def test_a_full_batch_waits_for_nothing():
    one = simulate(setting(batch=4, delay_us=100_000), costs({1: 100.0, 4: 100.0}), clients=4, cores=PLENTY)
    assert one.rate == pytest.approx(4 * 1e6 / 100, rel=0.01)
    assert one.mean_batch == 4


def test_a_late_request_takes_all_that_wait_with_it():
    """Triton ends a batch at the preferred size only as long as nothing has waited longer than the delay."""
    model = costs({1: 100.0, 32: 1600.0})
    assert simulate(setting(batch=2), model, clients=32, cores=2, largest=32).mean_batch == pytest.approx(2, rel=0.05)
    late = simulate(setting(batch=2, delay_us=100), model, clients=32, cores=2, largest=32)
    assert late.mean_batch > 3


def test_times_between_the_known_sizes_lie_on_the_line_between_them():
    known = costs({1: 100.0, 3: 200.0, 5: 220.0}, batch_us=7)
    assert [known.run(rows, 1) for rows in (1, 2, 3, 4, 5, 7)] == pytest.approx([107, 157, 207, 217, 227, 247])
    assert costs({2: 100.0}).run(4, 1) == pytest.approx(200)
    assert costs({0: 50.0, 1: 50.0}).run(1, 1) == pytest.approx(50)


def test_the_same_seed_gives_the_same_result():
    one = [simulate(setting(batch=4), costs({1: 9.0, 4: 20.0}, jitter=0.3), clients=8, cores=2, seed=3)] * 2
    assert one[0] == one[1]
    other = simulate(setting(batch=4), costs({1: 9.0, 4: 20.0}, jitter=0.3), clients=8, cores=2, seed=4)
    assert other != one[0]
