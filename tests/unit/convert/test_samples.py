"""Samples come from `.npz` files that hold plain arrays; nothing in them is run."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from modelport.convert.samples import read_samples
from modelport.errors import ExampleInputError, ModelportError


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_by_name_and_strings_as_python_strings(tmp_path, save):
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    save(tmp_path / "s.npz", image=image, text=np.array(["a", "ü"]), raw=np.array([b"c", b"d"]))
    found = read_samples(tmp_path / "s.npz")
    assert list(found) == ["image", "text", "raw"]
    assert np.array_equal(found["image"], image) and found["image"].dtype == np.uint8
    assert found["text"].tolist() == ["a", "ü"] and found["raw"].tolist() == ["c", "d"]


def test_pickled_objects_are_refused_and_not_run(tmp_path, payload):
    """The file is a good .npz but for the pickle in it."""
    np.savez(tmp_path / "s.npz", image=np.array([payload], dtype=object))
    with pytest.raises(ExampleInputError) as caught:
        read_samples(tmp_path / "s.npz")
    assert not payload.ran()
    assert "numpy.savez" in caught.value.fix
    with np.load(tmp_path / "s.npz", allow_pickle=True) as stored:
        stored["image"]
    assert payload.ran(), "the payload can run, so the check above means something"


def test_a_table_is_no_samples_and_no_pickle(tmp_path):
    (tmp_path / "s.csv").write_text("a,b,labels\n1,2,0\n")
    with pytest.raises(ExampleInputError) as caught:
        read_samples(tmp_path / "s.csv")
    assert caught.value.why == "it is no .npz file, or not all of one" and "numpy.savez" in caught.value.fix


def damaged(kind: str) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, x=np.random.default_rng(0).integers(0, 255, 4000))
    whole = bytearray(file.getvalue())
    if kind == "cut off":
        return bytes(whole[: len(whole) // 2])
    if kind == "bytes changed":
        whole[200:260] = bytes(60)
        return bytes(whole)
    if kind == "unknown compression":
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr("y.npy", b"x")
        whole = bytearray(file.getvalue())
        at = whole.rindex(b"PK\x01\x02")
        whole[at + 10 : at + 12] = (99).to_bytes(2, "little")
        return bytes(whole)
    if kind == "a pickle":
        return b"cos\nsystem\n(S'true'\ntR."
    if kind == "a single array":
        file = io.BytesIO()
        np.save(file, np.ones(3))
        return file.getvalue()
    return {"empty": b"", "text": b"hello", "an archive of other things": _other_archive()}[kind]


def _other_archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", b"not an array")
    return file.getvalue()


@pytest.mark.parametrize(
    "kind",
    [
        "cut off", "bytes changed", "unknown compression", "a pickle", "a single array", "empty", "text",
        "an archive of other things",
    ],
)  # fmt: skip
def test_a_file_that_holds_no_samples_is_one_clear_error(tmp_path, kind):
    (tmp_path / "s.npz").write_bytes(damaged(kind))
    with pytest.raises(ModelportError) as caught:
        read_samples(tmp_path / "s.npz")
    assert "s.npz" in caught.value.what and caught.value.why and caught.value.fix
    assert caught.value.exit_code in (11, 12, 14)


def test_a_missing_file_or_a_folder_is_one_clear_error(tmp_path):
    for path in (tmp_path / "missing.npz", tmp_path):
        with pytest.raises(ExampleInputError, match=path.name):
            read_samples(path)
