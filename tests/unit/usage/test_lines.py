"""What a line of the access log counts for."""

from __future__ import annotations

import pytest

from modelport.gateway import access_log
from modelport.usage import lines
from modelport.usage.answers import BEYOND
from modelport.usage.store import Store


@pytest.mark.parametrize(
    ("status", "grpc", "flags", "what"),
    [
        (200, "", "-", "answered"),
        (200, "0", "-", "answered"),
        (200, "", "DC", "unanswered"),
        (200, "0", "UC", "unanswered"),
        (0, "", "DC", "unanswered"),
        (200, "1", "-", "unanswered"),
        (200, "3", "-", "refused"),
        (200, "16", "-", "refused"),
        (200, "8", "-", "limited"),
        (200, "4", "-", "failed"),
        (200, "14", "UO", "failed"),
        (401, "", "-", "refused"),
        (413, "", "-", "refused"),
        (429, "", "RL", "limited"),
        (500, "", "-", "failed"),
        (503, "14", "UO", "failed"),
    ],
)
def test_only_whole_answers_are_answers(line, status, grpc, flags, what):
    (found,) = access_log.requests(line(status=status, grpc_status=grpc, flags=flags))
    assert lines.outcome(found) == what


def test_only_what_was_answered_counts_in_inferences_and_bytes(logged, line):
    logged.write(line(inferences="4"), line(inferences=""), line(inferences="2"), line(status=500), line(status=429))
    logged.count()
    sums = logged.sums()["acme"]
    assert (sums.answered, sums.inferences, sums.received_bytes, sums.sent_bytes) == (3, 7, 30, 60)
    assert (sums.failed, sums.limited, sums.refused, sums.unanswered) == (1, 1, 0, 0)


def test_questions_about_models_count_for_nothing(logged, line):
    logged.write(*(line(kind=kind) for kind in ("ready", "metadata", "server")))
    logged.count()
    assert logged.sums() == {} and logged.told().answers == {}


def test_names_that_only_a_caller_wrote_make_no_rows(logged, line):
    """A model or version that does not exist: else a caller could fill the disk with them."""
    refused = {"status": 404, "model": "made-up", "passed": ""}
    logged.write(line(**refused), line(status=404, version="123456"), line(tenant="", kind="", **refused))
    logged.count()
    assert {name: sums.refused for name, sums in logged.sums("tenant", "model", "version").items()} == {
        "//0": 1,
        "acme//0": 1,
        "acme/net/0": 1,
    }


def test_rows_are_of_an_hour_in_utc(logged, line):
    logged.write(line(time="2026-03-04T23:59:59.999Z"), line(time="2026-03-05T00:00:00.000Z"))
    logged.count()
    assert list(logged.sums("hour")) == ["2026-03-04T23", "2026-03-05T00"]


def test_for_prometheus_inference_with_a_valid_key_is_told_by_what_was_said(logged, line):
    """And what was refused before anybody knew what it asks for; rows and times are of what passed all checks."""
    refused = {"status": 403, "model": "", "kind": "", "passed": "", "inferences": ""}
    logged.write(line(inferences="4", us="1500"), line(inferences="1", us="9"), line(status=500, us="40000000"))
    logged.write(line(grpc_status="14"), line(kind="ready", passed="", inferences=""), line(**refused))
    logged.write(line(tenant="", **refused))
    logged.count()
    told = logged.told()
    assert {
        said: (one.requests, one.inferences, one.received_bytes, one.sent_bytes) for said, one in told.answers.items()
    } == {
        ("acme", "net", "200", ""): (2, 5, 20, 40),
        ("acme", "net", "200", "14"): (1, 1, 10, 20),
        ("acme", "net", "500", ""): (1, 1, 10, 20),
        ("acme", "", "403", ""): (1, 0, 10, 20),
    }
    ((names, times),) = told.times.items()
    assert names == ("acme", "net")
    assert times.counts == {250: 1, 2000: 2, BEYOND: 1} and times.us == {250: 9, 2000: 3000, BEYOND: 40_000_000}


def test_who_polls_readiness_thins_out_no_failures(logged, line):
    """Half of the inferences fail, whatever else is asked, and however that is answered."""
    logged.write(line(), line(status=500))
    logged.write(*(line(kind=kind, passed="", status=s) for kind in ("ready", "metadata") for s in [200] * 50 + [503]))
    logged.count()
    assert {said.code: one.requests for said, one in logged.told().answers.items()} == {"200": 1, "500": 1}


def test_a_call_that_was_given_up_took_no_time_that_is_known(logged, line):
    """It is no quick answer: else latencies would look better just when callers give up."""
    logged.write(line(us="", status=0, flags="DC"), line(us="900"))
    logged.count()
    ((_, times),) = logged.told().times.items()
    assert times.counts == {1000: 1}


def test_for_prometheus_counts_only_grow_and_end_when_nobody_asks_any_more(logged, line):
    logged.write(line(time="2026-03-04T05:00:00.000Z", status=500), line(time="2026-03-04T06:00:00.000Z"))
    logged.count()
    logged.write(line(time="2026-03-04T06:30:00.000Z"), line(tenant="gone", time="2026-03-01T06:00:00.000Z"))
    logged.count()
    told = logged.told("2026-03-04T06")
    assert {said[::2]: one.requests for said, one in told.answers.items()} == {("acme", "500"): 1, ("acme", "200"): 2}
    assert sum(told.times["acme", "net"].counts.values()) == 3 and len(told.times) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"us": "9" * 30},
        {"inferences": "9" * 30},
        {"sent_bytes": 10**20},
        {"version": 1.5},
        {"us": "x"},
        {"grpc_status": "x"},
        {"inferences": float("inf")},
        {"time": 7},
        {"model": ["net"]},
    ],
)
def test_a_line_that_says_nonsense_is_told_of_and_holds_up_no_other(logged, line, other):
    logged.write(line(**other), b"null\n", b"\0" * (3 * access_log.READ_BYTES), b"\n", line(tenant="next"))
    logged.count()
    assert logged.answered() == {"next": 1}
    with Store(logged.root) as store:
        assert store.damaged() >= 3
