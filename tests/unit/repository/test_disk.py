"""Files and folders change in one step, and what the disk refuses is one clear error. Order and faults: see
tests/integration/test_crash.py, where the system calls are looked at."""

from __future__ import annotations

import errno
import os

import pytest

from modelport.errors import RepositoryError, UsageError
from modelport.repository import disk


def test_a_text_is_replaced_by_a_new_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with path.open() as reader:
        disk.replace_text(path, "new ä", through=tmp_path / "deep" / "down")
        assert reader.read() == "old", "who has it open reads what it was"
    assert path.read_text() == "new ä" and list((tmp_path / "deep" / "down").iterdir()) == []


def test_a_replacement_that_fails_leaves_the_file_and_nothing_else(tmp_path):
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "in the way").touch()
    with pytest.raises(OSError, match="file"):
        disk.replace_text(tmp_path / "file", "new", through=tmp_path / "through")
    assert list((tmp_path / "through").iterdir()) == [] and (tmp_path / "file" / "in the way").exists()


@pytest.mark.parametrize("content", [b"", b"a\r\nb\n", b"\xff\xfe\x00", "ä".encode(), b"\xed\xb3\xbf"])
def test_any_bytes_survive_as_text(tmp_path, content):
    text = disk.decode(content)
    assert disk.encode(text) == content
    disk.replace_text(tmp_path / "file", text, through=tmp_path)
    assert (tmp_path / "file").read_bytes() == content


def test_folders_are_made_with_those_above_them(tmp_path, monkeypatch):
    disk.make_folder(tmp_path / "a" / "b" / "c")
    disk.make_folder(tmp_path / "a" / "b" / "c")
    monkeypatch.chdir(tmp_path)
    disk.make_folder(tmp_path.joinpath("relative").relative_to(tmp_path))
    assert (tmp_path / "a" / "b" / "c").is_dir() and (tmp_path / "relative").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        disk.make_folder(tmp_path / "file")
    with pytest.raises(OSError, match="file"):
        disk.make_folder(tmp_path / "file" / "below")


def test_a_folder_is_moved_where_nothing_is(tmp_path):
    for name in ("from", "full"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    with pytest.raises(OSError, match="full"):
        disk.move_folder(tmp_path / "from", tmp_path / "full")
    assert (tmp_path / "from" / "file").exists() and (tmp_path / "full" / "file").read_text() == "full"
    disk.move_folder(tmp_path / "from", tmp_path / "to")
    assert (tmp_path / "to" / "file").read_text() == "from" and not (tmp_path / "from").exists()


def test_what_the_disk_refuses_names_the_cause_and_the_file(tmp_path):
    with pytest.raises(RepositoryError) as caught, disk.errors(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "net"))
    error = caught.value
    assert "No space left on device" in error.what and str(tmp_path / "net") in error.why and "free space" in error.fix
    assert (error.path, error.exit_code) == (str(tmp_path / "net"), 30)


def test_other_errors_pass(tmp_path):
    with pytest.raises(UsageError), disk.errors(tmp_path):
        raise UsageError("x")
