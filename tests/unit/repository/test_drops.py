"""A refused drop is remembered for as long as its folder stays as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from modelport.errors import RepositoryError
from modelport.repository import drops
from modelport.repository.layout import state_folder


@pytest.fixture
def folder(repository):
    folder = repository / "net" / "3"
    (folder / "inner").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"weights")
    (folder / "inner" / "table.txt").write_text("a")
    return folder


def test_a_refusal_is_remembered_and_forgotten(folder, repository):
    assert drops.refusal(repository, "net", 3) is None
    drops.refuse(repository, "net", 3, "it has other tensors")
    assert drops.refusal(repository, "net", 3) == "it has other tensors"
    assert drops.refusal(repository, "net", 4) is None
    drops.forget(repository, "net", 3)
    drops.forget(repository, "net", 3)
    assert drops.refusal(repository, "net", 3) is None


def change_content(folder):
    (folder / "model.onnx").write_bytes(b"other weights")


def touch(folder):
    os.utime(folder / "model.onnx", ns=(1, 1))


def add(folder):
    (folder / "inner" / "more").write_text("")


def remove(folder):
    (folder / "inner" / "table.txt").unlink()


def rename(folder):
    (folder / "inner" / "table.txt").rename(folder / "table.txt")


def add_folder(folder):
    (folder / "empty").mkdir()


@pytest.mark.parametrize("change", [change_content, touch, add, remove, rename, add_folder])
def test_a_folder_that_changed_is_looked_at_again(folder, repository, change):
    drops.refuse(repository, "net", 3, "it is cut off")
    change(folder)
    assert drops.refusal(repository, "net", 3) is None


def test_reading_changes_no_fingerprint(folder):
    before = drops.fingerprint(folder)
    (folder / "model.onnx").read_bytes()
    assert drops.fingerprint(folder) == before


def test_links_are_not_followed_and_odd_names_are_taken(folder, tmp_path):
    (folder / "loop").symlink_to(folder)
    (folder / "nowhere").symlink_to(tmp_path / "missing")
    (folder / os.fsdecode(b"\xff\n")).write_bytes(b"")
    assert len(drops.fingerprint(folder)) == 64


def test_a_damaged_note_is_no_refusal(folder, repository):
    drops.refuse(repository, "net", 3, "it is cut off")
    note = state_folder(repository) / "drops" / "net" / "3.json"
    for text in ("", "[]", '{"reason": 1}', "\x00"):
        note.write_text(text)
        assert drops.refusal(repository, "net", 3) is None


def test_a_folder_that_is_gone_is_one_clear_error_and_no_refusal(folder, repository):
    drops.refuse(repository, "net", 3, "it is cut off")
    shutil.rmtree(folder)
    with pytest.raises(RepositoryError, match="cannot be read"):
        drops.fingerprint(folder)
    assert drops.refusal(repository, "net", 3) is None


UNREADABLE = """
import sys
from pathlib import Path
from modelport.errors import RepositoryError
from modelport.lifecycle.adopt import files
from modelport.repository import drops
repository = Path(sys.argv[1])
try:
    files.check(repository / "net" / "3")
except RepositoryError as exc:
    drops.refuse(repository, "net", 3, exc.what)
    print(drops.refusal(repository, "net", 3), "|", exc.fix)
"""


def test_a_folder_that_may_not_be_read_is_refused_until_it_may(folder, repository, require):
    command = [sys.executable, "-c", UNREADABLE, str(repository)]
    if os.geteuid() == 0:  # root may read everything, unless that right is taken away
        require("setpriv")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    folder.chmod(0)
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    finally:
        folder.chmod(0o755)
    assert "net/3 may not be read" in said and "chmod" in said
    assert drops.refusal(repository, "net", 3) is None, "it changed"
