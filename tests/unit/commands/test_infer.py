"""Inputs for `infer` come from files and from the command line; what cannot be read is told together."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
from PIL import Image

from modelport.cli import main
from modelport.commands.infer import read_inputs
from modelport.errors import UsageError


@pytest.mark.parametrize("text", ["5,3,1.5,2", "5 3 1.5 2", "5, 3, 1.5, 2"])
def test_numbers_without_brackets_are_told_how_to_write(text):
    with pytest.raises(UsageError, match=re.escape("write x=[5,3,1.5,2]")):
        read_inputs([f"x={text}"])


def test_one_version_is_named_once():
    assert main(["infer", "net/2", "--version", "3", "--input", "x=1"]) == 2


def test_json_and_text_on_the_command_line():
    assert read_inputs(["x=[0.5, 1]", "n=3", 't="3"', "text=a fine = film", "empty="]) == {
        "x": [0.5, 1],
        "n": 3,
        "t": "3",
        "text": "a fine = film",
        "empty": "",
    }


def test_arrays_from_files(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "one.npz", whatever=array)
    np.savez(tmp_path / "two.npz", x=array, y=array + 1)
    (tmp_path / "a.json").write_text("[[1, 2]]")
    (tmp_path / "a.txt").write_text("schön\n")
    for name, expected in (("a.npy", array), ("one.npz", array), ("two.npz", array + 1)):
        value = read_inputs([f"y=@{tmp_path / name}"])["y"]
        assert isinstance(value, np.ndarray) and value.dtype == np.float32 and np.array_equal(value, expected)
    assert read_inputs([f"y=@{tmp_path}/a.json", f"t=@{tmp_path}/a.txt"]) == {"y": [[1, 2]], "t": "schön"}


@pytest.mark.parametrize(
    ("mode", "name", "shape"),
    [("RGB", "a.png", (4, 5, 3)), ("L", "a.png", (4, 5, 1)), ("P", "a.png", (4, 5, 3)), ("RGB", "a.jpg", (4, 5, 3))],
)
def test_pictures_are_bytes_with_a_colour_axis(tmp_path, mode, name, shape):
    Image.new(mode, (5, 4)).save(tmp_path / name)
    pixels = read_inputs([f"image=@{tmp_path / name}"])["image"]
    assert isinstance(pixels, np.ndarray) and (pixels.dtype, pixels.shape) == (np.uint8, shape)


def test_everything_that_cannot_be_read_is_listed_together(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"x")
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "bad.npy").write_bytes(b"x")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nxxxx")
    (tmp_path / "utf16.txt").write_bytes(b"\xff\xfe")
    np.savez(tmp_path / "other.npz", p=np.zeros(1), q=np.zeros(1))
    names = ["a.bin", "bad.json", "bad.npy", "bad.npz", "bad.png", "utf16.txt", "other.npz", "missing.npy"]
    with pytest.raises(UsageError) as caught:
        read_inputs(["noequals", "=1", "d={}", "d={}", *(f"i{n}=@{tmp_path / name}" for n, name in enumerate(names))])
    assert "'noequals'" in caught.value.why and "'=1'" in caught.value.why and "'d'" in caught.value.why
    for number, _ in enumerate(names):
        assert f"'i{number}'" in caught.value.why


def test_an_archive_with_a_damaged_array_is_unreadable_input(tmp_path):
    """The archive itself is whole: only zlib finds the damage."""
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).random(1000))
    content = bytearray(path.read_bytes())
    content[60:90] = b"\xff" * 30
    path.write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read"):
        read_inputs([f"x=@{path}"])


def test_the_same_input_twice_is_refused():
    with pytest.raises(UsageError, match="second time"):
        read_inputs(["x=1", "x=2"])


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_pickle_in_an_array_file_is_not_run(tmp_path, suffix):
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (marker.touch, ())

    path = tmp_path / f"evil.{suffix}"
    objects = np.array([Evil()], dtype=object)
    np.save(path, objects, allow_pickle=True) if suffix == "npy" else np.savez(path, x=objects)
    with pytest.raises(UsageError):
        read_inputs([f"x=@{path}"])
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UsageError):
        read_inputs([f"x=@{path}"])
    assert not marker.exists()
