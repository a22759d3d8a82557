"""When a model is ready, when it is not, and when it does not count."""

from __future__ import annotations

import pytest

from modelport.supervisor.answers import OK, WRONG, Track
from modelport.supervisor.readiness import ModelView, not_ready, overall

NOW = 100.0
LOADED = {"wanted": (1,), "loaded": (1,), "known": True}
SWITCHING = {"wanted": (1, 2), "loaded": (1,), "known": True}


def result(kind):
    track = Track(now=NOW, interval_s=5, deadline_s=5)
    return track.record(kind, "too far off", latency_s=0.1, now=NOW, serving=True, versions=1)


@pytest.mark.parametrize(
    ("view", "answer", "reason"),
    [
        (LOADED, OK, ""),
        (LOADED, WRONG, "too far off"),
        (LOADED, None, "has not answered"),
        ({**LOADED, "before": True}, None, ""),
        ({**LOADED, "fault": "the process of version 1 is dead"}, OK, "is dead"),
        ({"wanted": (1,), "known": True}, None, "version 1 is not loaded"),
        ({"wanted": (1,), "known": True, "problem": "no file"}, None, "not loaded: no file"),
        ({"wanted": (1,)}, None, None),
        ({"wanted": (1,), "loaded": (1,)}, None, None),
        ({"wanted": (1,), "loaded": (1,)}, WRONG, "too far off"),
        ({"wanted": (1,), "problem": "no file"}, None, "no file"),
        ({}, None, None),
        ({"problem": "config.pbtxt cannot be read"}, None, "cannot be read"),
        ({**SWITCHING, "changing": "loading"}, OK, ""),
        ({**SWITCHING, "changing": "loading"}, WRONG, "too far off"),
        (SWITCHING, OK, "version 1 serves, version 2 is wanted"),
        ({"wanted": (1,), "loaded": (1, 2), "known": True}, OK, "version 2 serves, version 1 is wanted"),
        ({"wanted": (1, 2), "loaded": (2,), "known": True, "problem": "version 1 is damaged"}, OK, ""),
        ({"loaded": (1,), "known": True}, OK, "no version is wanted"),
    ],
)
def test_a_model(view, answer, reason):
    found = not_ready(ModelView(**view), None if answer is None else result(answer), NOW)
    assert found == reason if not reason else reason in found


def test_an_old_answer_counts_no_more():
    assert not_ready(ModelView(**LOADED), result(OK), NOW + 19) == ""
    assert "lately" in not_ready(ModelView(**LOADED), result(OK), NOW + 21)


def test_the_service_is_ready_when_every_model_is():
    views = {"a": ModelView(**LOADED), "b": ModelView(**LOADED), "new": ModelView(wanted=(1,)), "empty": ModelView()}
    good = {("a", 1): result(OK), ("b", 1): result(OK)}
    found = overall(views, good, NOW)
    assert (found.ready, found.missing, found.models) == (True, {}, ("a", "b"))
    found = overall(views, {**good, ("b", 1): result(WRONG)}, NOW)
    assert not found.ready and list(found.missing) == ["b"]
