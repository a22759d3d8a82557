"""What becomes of a version that is copied in is the model's own, and is `candidate` until somebody says otherwise."""

from __future__ import annotations

import pytest

from modelport.commands.policy import latency_budget, policy
from modelport.errors import InvalidNameError, ModelNotFoundError, UsageError
from modelport.repository import events, switch


@pytest.fixture(autouse=True)
def one(shelve):
    shelve()


def test_it_is_set_and_told(shelf):
    assert policy("net", repository=shelf) == "candidate"
    assert policy("net", on_drop="promote", repository=shelf) == "promote"
    assert policy("net", on_drop="promote", repository=shelf) == "promote"
    assert policy("net", repository=shelf) == "promote" == switch.read(shelf, "net")[1].on_drop
    assert [event.kind for event in events.latest(shelf, 9)].count("policy") == 1


def test_another_word_is_one_clear_error(shelf):
    with pytest.raises(UsageError) as caught:
        policy("net", on_drop="delete", repository=shelf)
    assert "candidate" in caught.value.why and policy("net", repository=shelf) == "candidate"


@pytest.mark.parametrize(("model", "error"), [("nope", ModelNotFoundError), ("a;b", InvalidNameError)])
@pytest.mark.parametrize("on_drop", [None, "promote"])
def test_a_model_that_is_missing_is_one_clear_error(shelf, model, error, on_drop):
    with pytest.raises(error):
        policy(model, on_drop=on_drop, repository=shelf)


def test_a_latency_budget_is_set_told_and_taken_away(shelf):
    assert latency_budget("net", repository=shelf) is None
    assert latency_budget("net", ms=20, repository=shelf) == 20 == latency_budget("net", repository=shelf)
    assert policy("net", on_drop="promote", repository=shelf) == "promote"
    assert switch.read(shelf, "net")[1].latency_budget_ms == 20
    assert latency_budget("net", ms=0, repository=shelf) is None is latency_budget("net", repository=shelf)


@pytest.mark.parametrize("ms", [-1, float("nan"), float("inf")])
def test_what_is_no_time_is_one_clear_error(shelf, ms):
    with pytest.raises(UsageError, match="no latency budget"):
        latency_budget("net", ms=ms, repository=shelf)
