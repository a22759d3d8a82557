"""One look at a folder tells whether it changes, whether it is all there, and whether it is a danger."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from modelport.lifecycle.adopt.files import unfinished
from modelport.supervisor.folders import danger, missing, signature


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "m" / "3"
    made.mkdir(parents=True)
    (made / "model.onnx").write_bytes(b"weights")
    return made


def manifest(folder: Path, **sizes: int) -> None:
    files = {name: {"size_bytes": size, "sha256": ""} for name, size in sizes.items()}
    (folder / "manifest.json").write_text(json.dumps({"files": files}))


@pytest.mark.parametrize(
    "change",
    [
        lambda f: (f / "model.onnx").write_bytes(b"weights and more"),
        lambda f: os.utime(f / "model.onnx", (1, 1)),
        lambda f: (f / "new").touch(),
        lambda f: (f / "empty").mkdir(),
        lambda f: (f / "model.onnx").unlink(),
        lambda f: (f / "model.onnx").rename(f / "net.onnx"),
        lambda f: (f / "sub").mkdir() or (f / "sub" / "data").touch(),
        lambda f: (f / "link").symlink_to("nowhere"),
    ],
    ids=["grown", "touched", "added", "folder", "removed", "renamed", "below", "link"],
)
def test_every_change_is_seen(folder, change):
    before = signature(folder)
    assert signature(folder) == before
    change(folder)
    assert signature(folder) != before


def test_a_file_that_was_replaced_by_one_of_the_same_size_and_time_is_seen(folder):
    os.utime(folder / "model.onnx", (1, 1))
    before = signature(folder)
    (folder / "other").write_bytes(b"weighty")
    os.utime(folder / "other", (1, 1))
    (folder / "other").replace(folder / "model.onnx")
    assert signature(folder) != before


def test_a_folder_that_is_gone_has_a_signature_of_its_own(folder, tmp_path):
    assert signature(tmp_path / "none") not in (signature(folder), "")


def test_a_link_is_not_followed(folder, tmp_path):
    (tmp_path / "m" / "4").symlink_to(folder)
    before = signature(tmp_path / "m" / "4")
    (folder / "new").touch()
    assert signature(tmp_path / "m" / "4") == before


def test_without_a_manifest_nothing_is_missing(folder):
    assert missing(folder) == ("", False)


def test_with_a_manifest_every_file_must_be_there_with_its_size(folder):
    manifest(folder, **{"model.onnx": 7})
    assert missing(folder) == ("", True)
    manifest(folder, **{"model.onnx": 8})
    assert missing(folder) == ("'model.onnx' has 7 of 8 bytes", False)
    manifest(folder, **{"model.onnx": 7, "golden.npz": 1})
    assert missing(folder) == ("manifest.json lists 'golden.npz', which is not there", False)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": 1}', '{"files": {"a": {}}}', "[" * 100_000])
def test_a_manifest_that_cannot_be_read_yet_is_missing_something(folder, text):
    (folder / "manifest.json").write_text(text)
    assert missing(folder) == ("manifest.json cannot be read", False)


def test_an_empty_folder_and_one_that_is_being_copied_are_not_complete(folder):
    (folder / ".model.onnx.a1B2c3").touch()
    assert missing(folder) == ("'.model.onnx.a1B2c3' is still being copied", False)
    for path in folder.iterdir():
        path.unlink()
    assert missing(folder) == ("it holds no file", False)


@pytest.mark.parametrize(
    "name", [".model.onnx.x8Yk2Q", "model.onnx.tmp", "model.part", ".~tmp~", ".~model", "a.filepart", "m.PART"]
)
def test_names_of_copies_under_way_are_known(name):
    assert unfinished(name)


@pytest.mark.parametrize("name", ["model.onnx", "tmp", "part", ".hidden", ".gitignore.d", "model.onnx.data", "3.tmp.x"])
def test_other_names_are_not_taken_for_copies(name):
    assert not unfinished(name)


@pytest.mark.parametrize("name", ["-1", "+3", "-3.tmp", "2147483648", "9" * 20, "9" * 200, "99999999999.tmp"])
def test_folders_that_could_end_the_server_are_a_danger(tmp_path, name):
    (tmp_path / name).mkdir()
    assert "version number" in danger(tmp_path / name)


@pytest.mark.parametrize("name", ["1", "2147483647", "3.tmp", "3-old", "003", "labels", "a-1", "0" * 22 + "5"])
def test_other_folders_are_none(tmp_path, name):
    (tmp_path / name).mkdir()
    assert danger(tmp_path / name) == ""


def test_a_file_with_such_a_name_is_none_and_a_stub_is_one(tmp_path):
    (tmp_path / "-1").touch()
    assert danger(tmp_path / "-1") == ""
    (tmp_path / "triton_python_backend_stub").touch()
    assert "execute" in danger(tmp_path / "triton_python_backend_stub")
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "triton_python_backend_stub").symlink_to("nowhere")
    assert "execute" in danger(tmp_path / "7")
