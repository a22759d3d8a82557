"""What became of calls, read from lines of an access log."""

from __future__ import annotations

import itertools
import json

import pytest

from modelport.gateway.access_log import aside
from modelport.gateway.routes.calls import Calls
from modelport.gateway.routes.watch import Did

NUMBERS = itertools.count()
ANSWERED = {
    "time": "2026-03-04T05:06:07.890Z",
    "kind": "infer",
    "model": "net",
    "version": "2",
    "drawn": "1",
    "status": 200,
    "grpc_status": "",
    "server_us": "40",
    "upstream": "127.0.0.1:8000",
    "flags": "-",
}


@pytest.fixture
def log(tmp_path):
    return tmp_path / "access.log"


def add(log, **changes):
    with log.open("a") as file:
        file.write(json.dumps({"id": str(next(NUMBERS)), **ANSWERED, **changes}) + "\n")


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, False),
        ({"status": 400}, False),
        ({"status": 429}, False),
        ({"status": 500}, True),
        ({"status": 503}, True),
        ({"status": 504, "flags": "UT"}, True),
        ({"grpc_status": "0"}, False),
        ({"grpc_status": "3"}, False),
        ({"grpc_status": "13"}, True),
        ({"grpc_status": "14"}, True),
        ({"grpc_status": "4"}, True),
    ],
)
def test_a_call_fails_by_the_server_or_where_it_is_given_up_and_not_by_the_caller(log, changes, failed):
    calls = Calls(log, "net")
    add(log, **changes)
    assert calls.read() == {2: Did(answered=not failed, answered_us=0 if failed else 40, failed=failed)}


GIVEN_UP = {"status": 0, "server_us": "", "flags": "DC", "version": "1"}


def test_what_callers_name_or_give_up_soon_is_held_against_no_version(log):
    """Also where the body had come slowly. What the server had for longer than calls take is."""
    calls = Calls(log, "net")
    add(log, server_us="20000")
    add(log, version="1", status=500, drawn="")
    for ms, sent_ms in (("3", "2"), ("80", "0"), ("5000", "4920"), ("5000", ""), ("", "")):
        add(log, **GIVEN_UP, ms=ms, sent_ms=sent_ms)
    right = {2: Did(answered=1, answered_us=20000, failed=0)}
    assert calls.read() == right
    add(log, **GIVEN_UP, ms="100", sent_ms="10")
    assert calls.read() == right | {1: Did(answered=0, answered_us=0, failed=1)}


def test_what_was_before_other_models_and_what_reached_no_server_count_for_nobody(log):
    add(log)
    calls = Calls(log, "net")
    for changes in ({"model": "net2"}, {"kind": "ready"}, {"upstream": "", "status": 503}, {"kind": ""}):
        add(log, **changes)
    with log.open("a") as file:
        file.write('not JSON, "net"\n[1]\n{"model": "net", "kind": "infer"}\n')
    assert calls.read() == {}
    add(log, version="")
    assert calls.read() == {0: Did(answered=1, answered_us=40, failed=0)}


def test_each_line_counts_once_also_where_the_log_is_put_aside_and_a_line_is_half_there(log):
    calls = Calls(log, "net")
    for _ in range(3):
        add(log)
    assert calls.read()[2].answered == 3
    add(log)
    log.replace(aside(log))
    assert calls.read()[2].answered == 4
    add(log, version="1", status=500)
    line = json.dumps(ANSWERED)
    with log.open("a") as file:
        file.write(line[:20])
    assert calls.read()[2].answered == 4
    with log.open("a") as file:
        file.write(line[20:] + "\n")
    found = calls.read()
    assert (found[2].answered, found[1].failed) == (5, 1)
