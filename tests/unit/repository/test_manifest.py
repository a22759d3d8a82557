"""A manifest lists every file of a version; whatever differs from it is named."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil

import pytest

from modelport.errors import ManifestError
from modelport.repository import manifest as manifests
from modelport.repository.manifest import MANIFEST_FILE, FileRecord, check_files, makers, records


@pytest.fixture
def version(tmp_path, make_spec, make_manifest):
    """Folder net/3 with files and a manifest."""
    folder = tmp_path / "net" / "3"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"weights")
    (folder / "golden.npz").write_bytes(b"")
    (folder / "sub" / "vocabulary.txt").write_text("a\nb\n")
    manifest = make_manifest(make_spec(), 3, folder, metrics={"accuracy": 0.5}, facts={"k": "v"}, note="n")
    manifests.write(folder, manifest)
    return folder


def test_what_was_written_is_read(version):
    found = manifests.read(version)
    assert (found.spec.name, found.version, found.format, found.backend) == ("net", 3, "onnx", "onnxruntime")
    assert (found.metrics, found.facts, found.note) == ({"accuracy": 0.5}, {"k": "v"}, "n")
    manifests.write(version, found)
    assert manifests.read(version) == found


def test_what_its_publisher_asked_for_is_read(version):
    """Promoting the version uses it. Manifests of before have no such field."""
    found = manifests.read(version)
    assert found.asked == ()
    manifests.write(version, dataclasses.replace(found, asked=("max_batch_size", "instance_group")))
    assert manifests.read(version).asked == ("max_batch_size", "instance_group")
    content = json.loads((version / MANIFEST_FILE).read_text())
    del content["asked"]
    (version / MANIFEST_FILE).write_text(json.dumps(content))
    assert manifests.read(version) == found


def test_every_file_is_recorded_with_size_and_digest(version):
    found = manifests.read(version)
    assert found.files == {
        "golden.npz": FileRecord(size_bytes=0, sha256=hashlib.sha256(b"").hexdigest()),
        "model.onnx": FileRecord(size_bytes=7, sha256=hashlib.sha256(b"weights").hexdigest()),
        "sub/vocabulary.txt": FileRecord(size_bytes=4, sha256=hashlib.sha256(b"a\nb\n").hexdigest()),
    }
    assert found.size_bytes == 11


def test_it_tells_what_made_it():
    found = makers()
    assert {"python", "modelport", "torch", "onnx", "onnxruntime", "numpy"} <= set(found)
    assert all("+" not in number for number in found.values()), "no names of local builds"


def test_an_untouched_version_passes(version):
    check_files(version, manifests.read(version))


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("touch", "words"),
    [
        (lambda folder: flip(folder / "model.onnx"), ["model.onnx was changed"]),
        (lambda folder: flip(folder / "sub" / "vocabulary.txt"), ["sub/vocabulary.txt was changed"]),
        (lambda folder: (folder / "golden.npz").write_bytes(b"x"), ["golden.npz was changed"]),
        (lambda folder: (folder / "model.onnx").unlink(), ["model.onnx is missing"]),
        (lambda folder: (folder / "new.py").touch(), ["new.py was added"]),
        (lambda folder: (folder / ".hidden").touch(), [".hidden was added"]),
        (lambda folder: (folder / "sub" / MANIFEST_FILE).touch(), [f"sub/{MANIFEST_FILE} was added"]),
        (lambda folder: (folder / "link").symlink_to("/etc"), ["link was added"]),
        (lambda folder: (folder / "dangling").symlink_to("nowhere"), ["dangling was added"]),
        (lambda folder: os.mkfifo(folder / "pipe"), ["pipe was added"]),
        (
            lambda folder: (folder / "model.onnx").rename(folder / "other.onnx"),
            ["model.onnx is missing", "other.onnx was added"],
        ),
        (lambda folder: shutil.move(folder / "sub", folder / "bus"), ["sub/vocabulary.txt is missing", "bus/vocab"]),
    ],
    ids=[
        "flipped", "flipped below", "grown", "removed", "added", "hidden added", "second manifest", "link added",
        "dangling link", "pipe added", "renamed", "folder renamed",
    ],
)  # fmt: skip
def test_every_difference_is_named(version, touch, words):
    touch(version)
    with pytest.raises(ManifestError) as caught:
        check_files(version, manifests.read(version))
    for word in words:
        assert word in caught.value.what
    assert "net/3" in caught.value.what and caught.value.fix and caught.value.exit_code == 35


def test_a_file_that_became_a_link_to_the_same_content_is_a_change(version):
    """The content could change later without a trace in the folder."""
    shutil.move(version / "model.onnx", version.parent / "aside")
    (version / "model.onnx").symlink_to(version.parent / "aside")
    with pytest.raises(ManifestError, match=r"model\.onnx was changed"):
        check_files(version, manifests.read(version))


@pytest.mark.parametrize("name", ["net/4", "other/3"])
def test_a_folder_that_was_renamed_is_not_what_was_published(version, name):
    target = version.parents[1] / name
    shutil.copytree(version, target)
    with pytest.raises(ManifestError, match="the folder was net/3"):
        check_files(target, manifests.read(target))


def test_all_differences_are_named_together(version):
    flip(version / "model.onnx")
    (version / "golden.npz").unlink()
    (version / "new").touch()
    with pytest.raises(ManifestError) as caught:
        check_files(version, manifests.read(version))
    assert [w in caught.value.what for w in ("model.onnx was", "golden.npz is", "new was")] == [True] * 3


def edited(change):
    def apply(path):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return apply


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:-30]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff"),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text("7"),
        lambda path: path.write_text("[" * 100_000),
        edited(lambda content: content.update(schema=2)),
        edited(lambda content: content.pop("spec")),
        edited(lambda content: content.pop("version")),
        edited(lambda content: content.update(version="three")),
        edited(lambda content: content.update(metrics=None)),
        edited(lambda content: content.update(surprise=1)),
        edited(lambda content: content["spec"]["inputs"][0].update(dtype="FP31")),
        edited(lambda content: content["spec"]["inputs"][0].update(name="a b")),
        edited(lambda content: content["spec"]["inputs"][0].update(pad="0")),
        edited(lambda content: content["spec"]["inputs"][0].update(pad=True)),
        edited(lambda content: content["files"].update(x={"size": 3})),
        edited(lambda content: content["files"]["model.onnx"].update(size_bytes="7")),
        edited(lambda content: content["metrics"].update(accuracy="high")),
        edited(lambda content: content.update(framework=None)),
        edited(lambda content: content.update(framework="\ud800")),
        edited(lambda content: content["metrics"].update({"\ud800": 1.0})),
        edited(lambda content: content.update(makers=[])),
        edited(lambda content: content.update(facts="x")),
    ],
)
def test_a_damaged_manifest_is_one_clear_error(version, damage):
    damage(version / MANIFEST_FILE)
    with pytest.raises(ManifestError) as caught:
        manifests.read(version)
    error = caught.value
    assert "net/3" in error.what and error.why and error.fix and error.path == str(version / MANIFEST_FILE)
    assert "\n" not in error.why


def test_large_files_are_read_in_pieces(tmp_path):
    (tmp_path / "big").write_bytes(os.urandom(3 << 20) + b"end")
    assert records(tmp_path)["big"].sha256 == hashlib.sha256((tmp_path / "big").read_bytes()).hexdigest()
