"""Labelled data from files: what is read is what was written, and what cannot be used is said."""

from __future__ import annotations

import numpy as np
import pytest

from modelport.errors import DataError, UnsafeSourceError
from modelport.evaluate.data import EvaluationData, read, write
from modelport.spec import ModelSpec, TensorSpec, dtype_of


def spec(*inputs):
    tensors = tuple(TensorSpec(name=name, dtype=dtype_of(kind), dims=dims) for name, kind, dims in inputs)
    return ModelSpec(name="m", inputs=tensors, outputs=tensors, max_batch_size=8)


def test_what_was_written_comes_back(tmp_path):
    before = EvaluationData(
        name="some rows",
        inputs={"text": np.array([["a"], ["bc"]], dtype=object), "x": np.ones((2, 3), np.float32)},
        labels=np.array([0, 1]),
        slices={"length": np.array(["short", "long"])},
        metrics=("accuracy", "f1"),
        padded=True,
    )
    write(tmp_path / "d.npz", before)
    back = read(tmp_path / "d.npz")
    assert (back.name, back.metrics, back.padded, back.rows) == ("some rows", ("accuracy", "f1"), True, 2)
    assert back.inputs["text"].dtype == object and back.inputs["text"].tolist() == [["a"], ["bc"]]
    assert back.sha256 == before.sha256
    assert {c: {v: r.tolist() for v, r in g.items()} for c, g in back.groups().items()} == {
        "length": {"short": [0], "long": [1]}
    }
    changed = EvaluationData(name="other", inputs=before.inputs, labels=np.array([1, 1]), slices=before.slices)
    assert changed.sha256 != before.sha256


def test_a_table_is_rows_of_numbers_or_a_column_for_each_input(tmp_path):
    file = tmp_path / "d.csv"
    file.write_text("a,b,labels,slice_site\n1,2.5,0,north\n3,4,1,south\n")
    found = read(file, spec(("features", "FP32", (2,))))
    assert found.inputs["features"].dtype == np.float32 and found.inputs["features"].tolist() == [[1, 2.5], [3, 4]]
    assert found.labels.dtype == np.int64 and list(found.groups()["site"]) == ["north", "south"]
    file.write_text("text,n,labels\nfine,1,0.5\nbad,2,1\n")
    found = read(file, spec(("text", "BYTES", (1,)), ("n", "INT64", (1,))))
    assert found.inputs["text"].tolist() == [["fine"], ["bad"]] and found.inputs["n"].tolist() == [[1], [2]]
    assert found.labels.dtype == np.float64


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.ones((2, 1))}, "no array 'labels'"),
        ({"x": np.ones((2, 1)), "labels": np.ones(3)}, "x has 2, labels has 3"),
        ({"labels": np.ones(3)}, "there is no input"),
        ({"x": np.ones((0, 1)), "labels": np.ones(0)}, "labels has 0"),
        ({"x": np.ones((2, 1)), "labels": np.ones(2), "slice_a": np.ones(1)}, "slice_a has 1"),
        ({"x": np.array([{}, {}]), "labels": np.ones(2)}, "Object arrays"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(tmp_path, arrays, words):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError) as caught:
        read(tmp_path / "d.npz")
    assert words in caught.value.why and caught.value.fix


def test_a_file_that_would_fill_the_memory_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "d.npz", x=np.zeros((100, 1 << 20), np.int8), labels=np.ones(100))
    with pytest.raises(UnsafeSourceError, match="zip bomb"):
        read(tmp_path / "d.npz")


def test_a_single_array_is_no_labelled_data(tmp_path):
    """Whatever its file is called."""
    with (tmp_path / "d.npz").open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(DataError, match="cannot be used") as caught:
        read(tmp_path / "d.npz")
    assert "single array" in caught.value.why


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"a,b\n"])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(DataError):
        read(tmp_path / "d.npz")
    with pytest.raises(DataError):
        read(tmp_path / "missing.npz")
    (tmp_path / "d.csv").write_bytes(content)
    with pytest.raises(DataError):
        read(tmp_path / "d.csv", spec(("x", "FP32", (2,))))
