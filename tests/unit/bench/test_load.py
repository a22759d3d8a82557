"""How hard a server is asked, as it is typed."""

from __future__ import annotations

import pytest

from modelport.bench.load import loads
from modelport.errors import UsageError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("8", [8]),
        ("16,1, 4,4", [1, 4, 16]),
        ("1:32", [1, 2, 4, 8, 16, 32]),
        ("1:24", [1, 2, 4, 8, 16, 24]),
        ("4:4", [4]),
        ("1:32:8", [1, 9, 17, 25]),
        ("8:32:8", [8, 16, 24, 32]),
    ],
)
def test_a_concurrency_is_a_number_a_list_or_a_range(text, values):
    found = loads(concurrency=text, request_rate=None)
    assert [load.value for load in found] == values
    assert {load.kind for load in found} == {"concurrency"}


def test_a_request_rate_may_have_a_fraction():
    assert [load.value for load in loads(concurrency=None, request_rate="0.5:2")] == [0.5, 1, 2]
    assert str(loads(concurrency=None, request_rate="0.5")[0]) == "request rate 0.5"


@pytest.mark.parametrize("text", ["", "0", "1.5", "-1", "8:1", "1:8:0", "a", "1:2:3:4", "1,,2", "1:10000:1", "0:8"])
def test_anything_else_is_refused_with_the_value(text):
    with pytest.raises(UsageError) as caught:
        loads(concurrency=text, request_rate=None)
    assert repr(text) in str(caught.value)
    assert caught.value.why and caught.value.fix


@pytest.mark.parametrize("both", [("1", "1"), (None, None)])
def test_there_is_one_kind_of_load(both):
    with pytest.raises(UsageError, match="not both"):
        loads(concurrency=both[0], request_rate=both[1])
