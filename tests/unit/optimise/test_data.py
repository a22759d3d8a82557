"""Which samples calibrate and which are scored."""

from __future__ import annotations

import numpy as np
import pytest

from modelport.evaluate.data import EvaluationData
from modelport.optimise import origin as origins
from modelport.optimise.data import digest_of, gather


@pytest.fixture
def origin(repository):
    return origins.read(repository, "pictures")


def labelled(rows: int, **more) -> EvaluationData:
    x = np.arange(rows * 192, dtype=np.float32).reshape(rows, 3, 8, 8)
    return EvaluationData(name="labelled", inputs={"x": x}, labels=np.arange(rows) % 4, **more)


def firsts(arrays) -> list[float]:
    return arrays["x"][:, 0, 0, 0].tolist()


def test_evaluation_data_is_split_so_that_no_sample_does_both(origin):
    known = labelled(40, metrics=("accuracy",))
    found = gather(origin, None, known, count=30, fewest=8)
    one, two = {*firsts(found.calibration)}, {*firsts(found.scoring)}
    assert len(one) == 20 and one | two == {*firsts(known.inputs)} and not one & two
    assert found.truth is not None and found.metrics == ("accuracy",)
    assert found.truth.tolist() == [first / 192 % 4 for first in firsts(found.scoring)], "labels go with their rows"
    assert found.digest == gather(origin, None, known, count=30, fewest=8).digest, "the same at each call"


def test_a_file_calibrates_and_the_evaluation_data_is_scored(origin, data):
    found = gather(origin, data("pictures"), labelled(40), count=30, fewest=8)
    assert (len(found.calibration["x"]), len(found.scoring["x"])) == (30, 40)
    assert found.truth is not None and len(found.truth) == 40
    assert found.metrics == ("accuracy",), "the one that usually fits"


def test_of_many_scored_samples_some_of_everywhere_are_taken(origin, data, monkeypatch):
    monkeypatch.setattr("modelport.optimise.data.SCORED_ROWS", 20)
    found = gather(origin, data("pictures"), labelled(40), count=30, fewest=8)
    first = [int(one / 192) for one in firsts(found.scoring)]
    assert len(first) == 20 and max(first) > 30 and found.truth.tolist() == [one % 4 for one in first]


def test_half_of_a_file_is_held_back_where_nothing_else_is_known(origin, data):
    found = gather(origin, data("pictures"), None, count=30, fewest=8)
    assert (len(found.calibration["x"]), len(found.scoring["x"]), found.truth) == (30, 66, None)


def test_golden_inputs_are_enough_for_kinds_that_calibrate_nothing(origin):
    assert len(gather(origin, None, None, count=30, fewest=0).scoring["x"]) == origin.evidence.samples


def test_a_digest_tells_other_samples_types_and_shapes_apart():
    x = np.arange(6, dtype=np.float32)
    others = [x + 1, x.astype(np.float64), x.reshape(2, 3)]
    assert len({digest_of({"x": array}) for array in (x, *others)} | {digest_of({"z": x})}) == 5
    assert digest_of({"x": np.array(["a", "b"], dtype=object)}) != digest_of({"x": np.array(["ab"], dtype=object)})
