"""The load generator sends exactly the given bytes, and a run with errors is no result."""

from __future__ import annotations

import pytest

from modelport.bench import wrk
from modelport.bench.requests import Request
from modelport.errors import ProcessError

EVERY_BYTE = bytes(range(256)) * 3


def test_the_body_arrives_byte_for_byte_with_its_headers(echo, require):
    require("wrk")
    load = wrk.measure(echo.url, Request(path="/echo", body=EVERY_BYTE, headers={"X-Kind": "a"}), clients=2, seconds=1)
    headers, body = echo.last
    assert body == EVERY_BYTE and headers["X-Kind"] == "a"
    assert load.clients == 2 and load.requests > 10
    assert load.requests_per_s == pytest.approx(load.requests / load.seconds)
    assert 0 < load.p50_ms <= load.p99_ms


def test_several_requests_take_turns(echo, require):
    require("wrk")
    asked = [Request(path="/echo", body=bytes([n]) * n, headers={"X-Length": str(n)}) for n in (1, 2, 3)]
    load = wrk.measure(echo.url, asked, clients=1, seconds=1)
    headers, body = echo.last
    assert load.requests > 10
    assert body == bytes([len(body)]) * int(headers["X-Length"])


def test_error_answers_are_not_counted_as_work(echo, require):
    require("wrk")
    with pytest.raises(ProcessError, match="answers were errors"):
        wrk.measure(echo.url, Request(path="/fail", body=b"x"), clients=1, seconds=1)


def test_an_address_where_nothing_listens_is_an_error(free_port, require):
    require("wrk")
    with pytest.raises(ProcessError):
        wrk.measure(f"http://127.0.0.1:{free_port()}", Request(path="/", body=b"x"), clients=1, seconds=1)


def test_output_without_a_result_is_an_error():
    with pytest.raises(ProcessError, match="wrk printed no result"):
        wrk.parse("Running 1s test\n", ["wrk", "http://somewhere"], 1)
