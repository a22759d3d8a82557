"""What gates say: limits, drops on the same rows, and what is not measured surely enough."""

from __future__ import annotations

import numpy as np
import pytest

from modelport.evaluate.judge import judge
from modelport.repository.gate import Gate, content, parse

LABELS = np.arange(200) % 2


def answering(wrong):
    """Probabilities of class 1 that are wrong in these many rows, the first ones."""
    right = np.where(np.arange(200) < wrong, 1 - LABELS, LABELS)
    return {"p": (0.1 + 0.8 * right)[:, None]}


def verdict(gate, after, before=None):
    (found,) = judge([gate], answering(after), None if before is None else answering(before), LABELS)
    return found


def test_a_least_value_is_kept_or_not():
    assert verdict(Gate(metric="accuracy", min=0.95), 10).passed
    found = verdict(Gate(metric="accuracy", min=0.95), 11)
    assert not found.passed and "at least 0.95" in found.problems[0] and "0.945 [" in found.problems[0]
    assert not verdict(Gate(metric="accuracy", min=0.95, sure=True), 10).passed, "it may be 0.92 as well"


def test_a_drop_is_taken_from_the_version_that_serves():
    gate = Gate(metric="accuracy", max_drop=0.01)
    found = verdict(gate, 12, 10)
    assert found.passed and found.before == pytest.approx(0.95) and found.drop.value == pytest.approx(0.01)
    assert not verdict(gate, 13, 10).passed
    assert verdict(gate, 5, 10).passed, "better"
    assert verdict(gate, 100).passed, "nothing serves that it could be worse than"
    sure = Gate(metric="accuracy", max_drop=0.01, sure=True)
    assert verdict(sure, 10, 10).passed and not verdict(sure, 12, 10).passed


def test_less_is_better_for_some():
    labels = np.zeros(4)
    close, far = {"y": np.full((4, 1), 0.1)}, {"y": np.full((4, 1), 0.3)}
    (found,) = judge([Gate(metric="mae", max=0.2, max_drop=0.05)], far, close, labels)
    assert len(found.problems) == 2 and found.before == pytest.approx(0.1) and found.drop.value == pytest.approx(0.2)
    (found,) = judge([Gate(metric="mae", max=0.2, max_drop=0.05)], close, far, labels)
    assert found.passed


def test_gates_are_kept_as_they_are_said():
    gates = (Gate(metric="accuracy", min=0.0, max_drop=0.005), Gate(metric="mae", max=1.0, sure=True))
    kept = content(gates)
    assert kept == [{"metric": "accuracy", "min": 0.0, "max_drop": 0.005}, {"metric": "mae", "max": 1.0, "sure": True}]
    assert parse(kept) == gates
    for damaged in ([{"metric": "accuracy"}], [{"metric": "accuracy", "min": float("nan")}], [{"metrik": "a"}], [1]):
        with pytest.raises((ValueError, TypeError)):
            parse(damaged)
