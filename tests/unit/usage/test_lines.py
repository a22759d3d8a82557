"""What a line of the access log counts for."""

from __future__ import annotations

import json

import pytest

from modelport.gateway import access_log
from modelport.usage import lines
from modelport.usage.store import Store


@pytest.mark.parametrize(
    ("status", "grpc", "flags", "what"),
    [
        (200, None, "-", "answered"),
        (200, 0, "-", "answered"),
        (200, None, "DC", "unanswered"),
        (200, 0, "UC", "unanswered"),
        (0, None, "DC", "unanswered"),
        (200, 1, "-", "unanswered"),
        (200, 3, "-", "refused"),
        (200, 16, "-", "refused"),
        (200, 8, "-", "limited"),
        (200, 4, "-", "failed"),
        (200, 14, "UO", "failed"),
        (401, None, "-", "refused"),
        (413, None, "-", "refused"),
        (429, None, "RL", "limited"),
        (500, None, "-", "failed"),
        (503, 14, "UO", "failed"),
    ],
)
def test_only_whole_answers_are_answers(line, status, grpc, flags, what):
    assert lines.outcome(json.loads(line(status=status, grpc_status=grpc, flags=flags))) == what


def test_only_what_was_answered_counts_in_inferences_and_bytes(logged, line):
    logged.write(line(inferences=4), line(inferences=None), line(inferences="2"), line(status=500), line(status=429))
    logged.count()
    sums = logged.sums()["acme"]
    assert (sums.answered, sums.inferences, sums.received_bytes, sums.sent_bytes) == (3, 7, 30, 60)
    assert (sums.failed, sums.limited, sums.refused, sums.unanswered) == (1, 1, 0, 0)


def test_questions_about_models_count_for_nothing(logged, line):
    logged.write(*(line(kind=kind) for kind in ("ready", "metadata", "server")))
    logged.count()
    assert logged.sums() == {}


def test_names_that_only_a_caller_wrote_make_no_rows(logged, line):
    """A model or version that does not exist: else a caller could fill the disk with them."""
    refused = {"status": 404, "model": "made-up", "passed": None}
    logged.write(line(**refused), line(status=404, version="123456"), line(tenant=None, kind=None, **refused))
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


@pytest.mark.parametrize("other", [{"version": 1.5}, {"inferences": float("inf")}, {"time": 7}, {"model": ["net"]}])
def test_a_line_that_says_nonsense_is_told_of_and_holds_up_no_other(logged, line, other):
    logged.write(line(**other), b"null\n", b"\0" * (3 * access_log.READ_BYTES), b"\n", line(tenant="next"))
    logged.count()
    assert logged.answered()["next"] == 1
    with Store(logged.root) as store:
        assert store.damaged() >= 3
