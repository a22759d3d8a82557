"""Which samples calibrate and which are scored."""

from __future__ import annotations

import numpy as np
import pytest

from modelport.optimise import origin as origins
from modelport.optimise.data import digest_of, gather
from modelport.recipes import stored


@pytest.fixture
def origin(repository):
    return origins.read(repository, "pictures")


def kept(repository, rows: int) -> np.ndarray:
    x = np.arange(rows * 192, dtype=np.float32).reshape(rows, 3, 8, 8)
    stored.save(
        repository,
        "pictures",
        1,
        stored.StoredEvaluation(
            inputs={"x": x},
            answers={"y": np.zeros((rows, 4), np.float32)},
            truth=np.arange(rows),
            metrics=("accuracy",),
            padded=False,
            framework="none",
        ),
    )
    return x


def test_a_stored_evaluation_is_split_so_that_no_sample_does_both(origin, repository):
    x = kept(repository, 40)
    found = gather(origin, repository, None, count=30, fewest=8)
    one, two = ({*part["x"][:, 0, 0, 0].tolist()} for part in (found.calibration, found.scoring))
    assert len(one) == 20 and one | two == {*x[:, 0, 0, 0].tolist()} and not one & two
    assert found.truth is not None and found.metrics == ("accuracy",)
    np.testing.assert_array_equal(x[found.truth], found.scoring["x"])
    assert found.digest == gather(origin, repository, None, count=30, fewest=8).digest, "the same at each call"


def test_a_file_calibrates_and_the_stored_evaluation_is_scored(origin, repository, data):
    kept(repository, 40)
    found = gather(origin, repository, data("pictures"), count=30, fewest=8)
    assert (len(found.calibration["x"]), len(found.scoring["x"])) == (30, 40)
    assert found.truth is not None and len(found.truth) == 40


def test_half_of_a_file_is_held_back_where_nothing_else_is_known(origin, repository, data):
    found = gather(origin, repository, data("pictures"), count=30, fewest=8)
    assert (len(found.calibration["x"]), len(found.scoring["x"]), found.truth) == (30, 66, None)


def test_golden_inputs_are_enough_for_kinds_that_calibrate_nothing(origin, repository):
    found = gather(origin, repository, None, count=30, fewest=0)
    assert len(found.scoring["x"]) == origin.evidence.samples


def test_a_digest_tells_other_samples_types_and_shapes_apart():
    x = np.arange(6, dtype=np.float32)
    others = [x + 1, x.astype(np.float64), x.reshape(2, 3)]
    assert len({digest_of({"x": array}) for array in (x, *others)} | {digest_of({"z": x})}) == 5
    assert digest_of({"x": np.array(["a", "b"], dtype=object)}) != digest_of({"x": np.array(["ab"], dtype=object)})
