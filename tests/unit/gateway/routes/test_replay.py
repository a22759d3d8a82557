"""Two versions are asked the same: which answers count as others."""

from __future__ import annotations

import time

import numpy as np
import pytest

from modelport.errors import RemoteError, RequestError, UnreachableError
from modelport.gateway.capture import secret
from modelport.gateway.capture.exchange import Exchange
from modelport.gateway.capture.keeper import Keeper
from modelport.gateway.capture.stored import Rule
from modelport.gateway.routes.replay import MOST, Pair, captured, counted
from modelport.gateway.routes.rollout import Replay
from modelport.lifecycle.served import Proven
from modelport.repository.manifest import Manifest
from modelport.spec import ModelSpec, TensorSpec, dtype_of
from modelport.verify.evidence import Evidence, Golden
from modelport.verify.tolerance import Tolerance

TENSORS = {"x": TensorSpec(name="x", dtype=dtype_of("FP32"), dims=(3,))}
ASKED = [{"x": np.zeros((1, 3), np.float32)}] * 4


def pair(**tolerances):
    spec = ModelSpec(name="net", inputs=(TENSORS["x"],), outputs=(TENSORS["x"],), max_batch_size=8)
    manifest = Manifest(
        spec=spec, version=2, format="onnx", backend="onnxruntime", framework="by hand", created="", files={}
    )
    evidence = Evidence(reference="", batched=True, samples=1, tolerances=tolerances, comparisons={})
    proven = Proven(manifest=manifest, evidence=evidence, golden=Golden(inputs=ASKED[0], outputs={}), largest=8)
    return Pair(model="net", canary=proven, stable=1)


def outcome(stable, canary, asked=ASKED, **tolerances):
    """What is counted when the versions answer so, one answer after another; an exception is raised."""
    answers = {1: iter(stable), 2: iter(canary)}

    def ask(version, _):
        answer = next(answers[version])
        if isinstance(answer, Exception):
            raise answer
        return answer

    return counted(asked, pair(**tolerances), ask)


def rows(name, *values, kind=np.float32):
    return [{name: np.array([value], kind)} for value in values]


CLOSE = Tolerance(kind="fixed", max_abs=0.01)
EXACT = Tolerance(kind="exact", max_abs=0.0)


def test_scores_differ_where_the_largest_class_does_near_ties_aside():
    stable = rows("p", [0.9, 0.1], [0.4, 0.6], [0.5, 0.5], [0.2, 0.8])
    canary = rows("p", [0.6, 0.4], [0.6, 0.4], [0.4, 0.6], [0.1, 0.9])
    assert outcome(stable, canary, p=CLOSE) == Replay(requests=4, differing=1, classes=True)


def test_whole_numbers_and_texts_are_classes():
    found = outcome(rows("k", 1, 2, 3, 4, kind=np.int64), rows("k", 1, 2, 0, 0, kind=np.int64), k=EXACT)
    assert found == Replay(requests=4, differing=2, classes=True)
    texts = outcome(rows("t", "a", "b", "c", "d", kind=object), rows("t", "a", "b", "c", "?", kind=object), t=EXACT)
    assert texts == Replay(requests=4, differing=1, classes=True)


def test_other_numbers_differ_beyond_the_tolerance():
    stable = rows("y", [1.0, -2.0], [1.0, -2.0], [1.0, -2.0], [1.0, -2.0])
    canary = rows("y", [1.005, -2.0], [1.1, -2.0], [1.0, -2.0], [1.0, 0.0])
    assert outcome(stable, canary, y=CLOSE) == Replay(requests=4, differing=2, classes=False)


def test_a_request_that_only_the_canary_fails_differs_and_one_that_stable_refuses_is_not_counted():
    good = rows("y", [1.0, -2.0])[0]
    stable = [good, RequestError("no"), good, good]
    canary = [good, RemoteError("broken"), rows("y", [np.nan, 0.0])[0]]
    assert outcome(stable, canary, y=CLOSE) == Replay(requests=3, differing=2, classes=False)
    with pytest.raises(UnreachableError):
        outcome([good], [UnreachableError("gone")], y=CLOSE)


def test_captured_requests_are_asked_too_unless_something_in_them_is_replaced(shelf, shelve):
    shelve()
    keeper = Keeper(shelf, secret.read_or_make(shelf))
    for value, marks in ((1.0, {}), (2.0, {"input x": "redacted"}), (3.0, {"output y": "masked"})):
        inputs = {"x": np.full((1, 3), value, np.float32)}
        of = {"model": "net", "version": 1, "at": time.time(), "protocol": "http", "status": 200}
        keeper.keep(Exchange(**of, inputs=inputs, outputs={}, marks=marks), Rule(model="net", part=1.0))
    keeper.close()
    said = []
    assert [float(one["x"][0, 0]) for one in captured(shelf, "net", said.append)] == [1.0, 3.0] and said == []
    secret.path(shelf).write_text("no key")
    assert [*captured(shelf, "net", said.append)] == [] and "captured requests are not replayed" in said[0]
    assert [*captured(shelf, "other", said.append)] == []


def test_no_more_is_asked_than_is_needed():
    many = ({"x": np.zeros((1, 3), np.float32)} for _ in range(10 * MOST))
    found = outcome(rows("y", *([1.0, 2.0],) * MOST), rows("y", *([1.0, 2.0],) * MOST), asked=many, y=CLOSE)
    assert found.requests == MOST
