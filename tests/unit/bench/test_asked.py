"""Options that cannot be right are all told at once, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.bench import asked
from modelport.bench.asked import Asked
from modelport.errors import InvalidNameError, UsageError

HERE = "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reference": "net/3", "against": "net/2", "concurrency": "1,4"},
        {"url": HERE, "against": "grpc://localhost:8001", "shared_memory": True},
        {"url": "grpc://there:1", "protocol": "grpc", "request_rate": "10:20"},
        {"flags": ("--percentile", "99"), "inputs": "random", "batch_size": 8},
    ],
)
def test_right_options_pass(options):
    asked.check(Asked(**{"reference": "net", **options}))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"concurrency": "4", "request_rate": "4"}, "--request-rate"),
        ({"concurrency": "0"}, "'0'"),
        ({"protocol": "http2"}, "http2"),
        ({"protocol": "http", "url": "grpc://there:1"}, "--protocol http"),
        ({"inputs": "mine"}, "mine"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"repeats": 0}, "--repeats 0"),
        ({"interval_s": 0}, "--interval 0"),
        ({"url": "there"}, "there"),
        ({"shared_memory": True, "url": "http://10.0.0.1:8000"}, "--shared-memory"),
        ({"against": HERE}, "--url"),
        ({"url": HERE, "ca_file": Path("ca.pem")}, "--ca-file needs"),
        ({"ca_file": Path("ca.pem")}, "--ca-file needs"),
        ({"url": "https://there", "ca_file": Path("no-such-file")}, "no-such-file"),
        ({"flags": ("-m", "x")}, "-m"),
    ],
)
def test_each_wrong_option_is_told(options, word):
    with pytest.raises(UsageError) as caught:
        asked.check(Asked(**{"reference": "net", **options}))
    assert word in caught.value.what
    assert caught.value.fix


def test_a_wrong_name_keeps_its_own_error():
    with pytest.raises(InvalidNameError):
        asked.check(Asked(reference="../net"))


def test_all_wrong_options_come_together():
    with pytest.raises(UsageError) as caught:
        asked.check(Asked(reference="net/x", concurrency="a", repeats=0, flags=("-b", "4")))
    assert all(word in caught.value.what for word in ("'x'", "'a'", "--repeats 0", "-b"))


def test_the_default_is_a_range_of_concurrency():
    assert [load.value for load in Asked(reference="net").loads()] == [1, 2, 4, 8, 16, 32]
    assert {load.kind for load in Asked(reference="net", request_rate="5").loads()} == {"request_rate"}
