"""Zip archives that fill the memory, leave their folder, or read differently in two programs."""

from __future__ import annotations

import io
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from modelport.convert.hostile.archives import MAX_MEMBERS, check_zip, members_of, read
from modelport.convert.hostile.refusals import Place
from modelport.errors import SourceFormatError, UnsafeSourceError

MEASURED = r"""
import re, sys, time
from pathlib import Path
from modelport.convert import sniff
from modelport.errors import ModelportError
start = time.monotonic()
try:
    sniff.kind_of(Path(sys.argv[1]))
    print("accepted")
except ModelportError as exc:
    print(type(exc).__name__)
print(time.monotonic() - start)
print(int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def zipped(path: Path, *members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """A zip archive as Python writes it."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def measured(path: Path) -> tuple[str, float, float]:
    """What sniffing a file in a process of its own says, its seconds, and the process's MiB."""
    done = subprocess.run([sys.executable, "-c", MEASURED, str(path)], capture_output=True, text=True, check=True)
    verdict, seconds, mebibytes = done.stdout.split()
    return verdict, float(seconds), float(mebibytes)


def entry(name: bytes, size: int, offset: int, *, flags: int = 0) -> bytes:
    """A directory entry of a stored member."""
    return (
        struct.pack("<4s6H3L5H2L", b"PK\1\2", 45, 45, flags, 0, 0, 0, 0, size, size, len(name), 0, 0, 0, 0, 0, offset)
        + name
    )


def end(count: int, length: int, start: int) -> bytes:
    """The end record, preceded by its zip64 form."""
    long = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, start + length, 1)
    short = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return long + locator + short


def test_what_python_and_torch_write_passes(samples: dict[str, Path], tmp_path: Path) -> None:
    for kind in ("keras", "torchscript", "exported_program", "state_dict"):
        assert list(check_zip(samples[kind])) == zipfile.ZipFile(samples[kind]).namelist()
    packed = zipped(tmp_path / "a.zip", ("x/é.txt", b"a" * 999), ("y/", b""), compression=zipfile.ZIP_DEFLATED)
    with packed.open("rb") as file:
        members = members_of(file, packed.stat().st_size, Place(path=packed))
        assert read(file, members["x/é.txt"], Place(path=packed), limit=999) == b"a" * 999


def test_an_archive_of_real_size_with_thousands_of_members_passes_quickly(tmp_path: Path) -> None:
    path, size, count = tmp_path / "big.zip", 200_000, 4_000
    directory = b""
    with path.open("wb") as file:
        for index in range(count):
            name = b"net/data/%d" % index
            directory += entry(name, size, file.tell())
            file.write(struct.pack("<4s5H3L2H", b"PK\3\4", 45, 0, 0, 0, 0, 0, size, size, len(name), 0) + name)
            file.seek(size, io.SEEK_CUR)  # a hole: the file takes no space
        start = file.tell()
        file.write(directory + end(count, len(directory), start))
    assert path.stat().st_size > 800_000_000
    verdict, seconds, mebibytes = measured(path)
    assert verdict == "SourceFormatError" and len(check_zip(path)) == count  # sound, though of no known kind
    assert seconds < 2 and mebibytes < 300


@pytest.mark.parametrize("said", ["the truth", "five", "modulo 65536"])
def test_a_million_members_are_refused_in_2_seconds_and_300_mebibytes(tmp_path: Path, said: str) -> None:
    path = tmp_path / "million.zip"
    head = struct.pack("<4s5H3L2H", b"PK\3\4", 45, 0, 0, 0, 0, 0, 0, 0, 4, 0) + b"name"
    directory = entry(b"name", 0, 0) * 1_000_000
    count = {"the truth": 1_000_000, "five": 5, "modulo 65536": 1_000_000 % 65536}[said]
    path.write_bytes(head + directory + end(count, len(directory), len(head)))
    verdict, seconds, mebibytes = measured(path)
    assert verdict == "UnsafeSourceError"
    assert seconds < 2 and mebibytes < 300


def test_a_directory_with_more_entries_than_the_end_record_says_is_refused(tmp_path: Path, refused: Callable) -> None:
    path = tmp_path / "more.zip"
    head = struct.pack("<4s5H3L2H", b"PK\3\4", 45, 0, 0, 0, 0, 0, 0, 0, 4, 0) + b"name"
    for count in (4, 6):
        directory = entry(b"name", 0, 0) * 5
        path.write_bytes(head + directory + end(count, len(directory), len(head)))
        refused(check_zip, path, SourceFormatError, "entries than its end record says")
    directory = entry(b"name", 0, 0) * (MAX_MEMBERS + 1)
    path.write_bytes(head + directory + end(MAX_MEMBERS + 1, len(directory), len(head)))
    refused(check_zip, path, UnsafeSourceError, str(MAX_MEMBERS))


def test_a_bomb_is_refused_in_2_seconds_and_300_mebibytes(tmp_path: Path, refused: Callable) -> None:
    path = zipped(tmp_path / "bomb.zip", ("zeros", bytes(100 << 20)), compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 200_000
    verdict, seconds, mebibytes = measured(path)
    assert verdict == "UnsafeSourceError"
    assert seconds < 2 and mebibytes < 300
    refused(check_zip, path, UnsafeSourceError, "zeros", "zip bomb")


def test_many_members_that_are_no_bombs_alone_are_one_together(tmp_path: Path, refused: Callable) -> None:
    members = [(f"zeros{index}", bytes(10 << 20)) for index in range(10)]
    path = zipped(tmp_path / "bomb.zip", *members, compression=zipfile.ZIP_DEFLATED)
    refused(check_zip, path, UnsafeSourceError, "zip bomb")


def test_a_member_that_unpacks_to_more_than_it_states_is_found_when_it_is_read(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", ("zeros", bytes(100_000)), compression=zipfile.ZIP_DEFLATED)
    data = path.read_bytes().replace(struct.pack("<L", 100_000), struct.pack("<L", 1_000))
    path.write_bytes(data)
    with path.open("rb") as file:
        members = members_of(file, len(data), Place(path=path))
        with pytest.raises(SourceFormatError, match="another size"):
            read(file, members["zeros"], Place(path=path), limit=1_000_000)


@pytest.mark.parametrize(
    "name",
    [
        "../a",
        "a/../../b",
        "/etc/x",
        "C:/x",
        "C:x",
        "a\\b",
        "..\\a",
        "a/./b",
        "a//b",
        "..",
        ".",
        "a/..",
        "a\nb",
        "//x",
    ],
)
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, refused: Callable, name: str) -> None:
    path = zipped(tmp_path / "a.zip", ("good", b"1"), (name, b"2"))
    refused(check_zip, path, UnsafeSourceError, repr(name), "outside")


def test_a_name_that_ends_at_a_nul_for_some_programs_is_refused(tmp_path: Path, refused: Callable) -> None:
    path = zipped(tmp_path / "a.zip", ("config.jsonX", b"{}"))
    path.write_bytes(path.read_bytes().replace(b"config.jsonX", b"config.json\0"))
    refused(check_zip, path, UnsafeSourceError, "config.json\\x00")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_special_files_are_refused(tmp_path: Path, refused: Callable, kind: int) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    refused(check_zip, path, UnsafeSourceError, "'link'", "link or a special file")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["config.json", "CONFIG.json"])
def test_two_members_of_one_name_are_refused(tmp_path: Path, refused: Callable, second: str) -> None:
    path = zipped(tmp_path / "a.zip", ("config.json", b"{}"), (second, b"[]"))
    refused(check_zip, path, UnsafeSourceError, repr(second))


def test_members_that_share_bytes_are_refused(tmp_path: Path, refused: Callable) -> None:
    inner = zipped(tmp_path / "inner.zip", ("hidden", b"2" * 50))
    path = tmp_path / "a.zip"
    data = zipped(path, ("visible", inner.read_bytes())).read_bytes()
    start = data.index(b"PK\1\2", data.index(b"PK\5\6"))
    directory = data[start : data.rindex(b"PK\5\6")] + entry(b"hidden", 50, data.index(b"PK\3\4", 4))
    path.write_bytes(data[:start] + directory + end(2, len(directory), start))
    refused(check_zip, path, UnsafeSourceError, "'hidden'", "shares bytes")
    twice = entry(b"visible", len(inner.read_bytes()), 0) + entry(b"other", 3, 0)
    path.write_bytes(data[:start] + twice + end(2, len(twice), start))
    refused(check_zip, path, UnsafeSourceError, "shares bytes")


def test_encrypted_members_are_refused(tmp_path: Path, refused: Callable) -> None:
    path = zipped(tmp_path / "a.zip", ("secret", b"1"))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    refused(check_zip, path, SourceFormatError, "'secret'", "encrypted")


def test_unknown_compression_is_refused(tmp_path: Path, refused: Callable) -> None:
    path = zipped(tmp_path / "a.zip", ("a", b"1" * 99), compression=zipfile.ZIP_LZMA)
    refused(check_zip, path, SourceFormatError, "'a'", "compression method 14")


@pytest.mark.parametrize("change", ["prefix", "suffix", "comment"])
def test_bytes_that_belong_to_no_member_are_refused(tmp_path: Path, refused: Callable, change: str) -> None:
    path = zipped(tmp_path / "a.zip", ("a", b"1"))
    if change == "comment":
        with zipfile.ZipFile(path, "a") as archive:
            archive.comment = b"PK\5\6 another end"
    else:
        path.write_bytes(b"#!/bin/sh\n" * (change == "prefix") + path.read_bytes() + b"\1" * (change == "suffix"))
        assert zipfile.ZipFile(path).namelist() == ["a"] or change == "suffix"  # others read it all the same
    refused(check_zip, path, SourceFormatError, "zip archive")


def test_a_header_that_contradicts_the_directory_is_refused(tmp_path: Path, refused: Callable) -> None:
    path = zipped(tmp_path / "a.zip", ("name", b"1"))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"name", b"evil", 1))
    refused(check_zip, path, UnsafeSourceError, "'name'", "another name")
    path.write_bytes(data[:8] + b"\x08" + data[9:])
    refused(check_zip, path, UnsafeSourceError, "'name'", "contradicts")


def test_two_end_records_that_disagree_are_refused(tmp_path: Path, refused: Callable) -> None:
    path = zipped(tmp_path / "a.zip", ("name", b"1"))
    data = path.read_bytes()
    start = data.index(b"PK\1\2")
    directory = data[start : data.index(b"PK\5\6")]
    good = data[:start] + directory + end(1, len(directory), start)
    path.write_bytes(good)
    assert list(check_zip(path)) == ["name"]
    path.write_bytes(good[:-22] + data[-22:].replace(struct.pack("<L", start), struct.pack("<L", 0)))
    refused(check_zip, path, UnsafeSourceError, "disagree")


def test_a_second_name_in_an_extra_field_is_refused(tmp_path: Path, refused: Callable) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("name")
        info.extra = struct.pack("<HHBL", 0x7075, 9, 1, 0) + b"evil"
        archive.writestr(info, "1")
    refused(check_zip, path, UnsafeSourceError, "second name")
