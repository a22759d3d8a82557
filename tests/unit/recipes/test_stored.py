"""An evaluation is kept beside the repository, and belongs to one version only."""

from __future__ import annotations

import numpy as np
import pytest

from modelport.recipes import stored
from modelport.recipes.stored import StoredEvaluation


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "models" / "m" / "1"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    return tmp_path / "models"


@pytest.fixture
def evaluation():
    return StoredEvaluation(
        inputs={"text": np.array([["naïve 'quote'"], [""]], dtype=object), "x": np.eye(2, dtype=np.float32)},
        answers={"label": np.array([["yes"], ["no"]], dtype=object), "n": np.array([1, 2])},
        truth=np.array([0, 1]),
        metrics=("accuracy", "f1"),
        padded=True,
        framework="pytorch 2.13.0",
    )


def test_what_was_kept_comes_back_equal(repository, evaluation):
    stored.save(repository, "m", 1, evaluation)
    back = stored.load(repository, "m", 1)
    for group in ("inputs", "answers"):
        before, after = getattr(evaluation, group), getattr(back, group)
        assert list(before) == list(after)
        for name in before:
            assert before[name].dtype == after[name].dtype
            assert np.array_equal(before[name], after[name])
    assert np.array_equal(back.truth, evaluation.truth)
    assert (back.metrics, back.padded, back.framework) == (("accuracy", "f1"), True, "pytorch 2.13.0")


def test_nothing_is_written_into_the_repository(repository, evaluation):
    before = sorted(repository.rglob("*"))
    stored.save(repository, "m", 1, evaluation)
    assert sorted(repository.rglob("*")) == before


def test_there_is_none_for_a_version_that_was_made_anew(repository, evaluation):
    stored.save(repository, "m", 1, evaluation)
    (repository / "m" / "1" / "manifest.json").write_text('{"other": 1}')
    assert stored.load(repository, "m", 1) is None


def test_there_is_none_when_the_file_is_missing_or_damaged(repository, evaluation):
    assert stored.load(repository, "m", 1) is None
    stored.save(repository, "m", 1, evaluation)
    (file,) = repository.with_name("models.state").rglob("*.npz")
    file.write_bytes(file.read_bytes()[:100])
    assert stored.load(repository, "m", 1) is None


@pytest.mark.parametrize("start", [60, 200, 400])
def test_there_is_none_when_an_array_in_the_file_is_damaged(repository, evaluation, start):
    stored.save(repository, "m", 1, evaluation)
    (file,) = repository.with_name("models.state").rglob("*.npz")
    content = bytearray(file.read_bytes())
    content[start : start + 30] = b"\xff" * 30
    file.write_bytes(content)
    assert stored.load(repository, "m", 1) is None
