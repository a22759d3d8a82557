"""What `modelport tune` refuses before it starts anything."""

from __future__ import annotations

import pytest

from modelport.bench.tuning.asked import Asked, check
from modelport.errors import UsageError


def test_everything_that_is_wrong_is_said_at_once():
    wrong = Asked(
        reference="net", objective="speed", percent=42, concurrency="none", target="tpu", write="a.pbtxt",
        protocol="smtp", budget_ms=0, repeats=0, interval_s=0,
    )  # fmt: skip
    with pytest.raises(UsageError) as error:
        check(wrong)
    for word in ("speed", "42", "none", "tpu", "a.pbtxt", "smtp", "budget", "--repeats", "--interval"):
        assert word in error.value.what


def test_what_is_right_is_taken():
    asked = Asked(reference="net/2", concurrency="1,8", budget_ms=20, write="configs/gpu.pbtxt", target="gpu")
    check(asked)
    assert asked.clients == (1, 8)
    assert asked.beside == "gpu" and asked.kind == "KIND_GPU"
    assert asked.goal.budget_us == 20_000
    check(Asked(reference="net", write="config"))
