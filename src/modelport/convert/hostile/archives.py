"""Zip archives: found out from the directory at the end, before any library parses it.

`.keras`, TorchScript `.pt`, `torch.save` and `.pt2` files are zip archives, and two programs can read one archive
in two ways. This reader accepts only archives that can be read in one way: no prefix, no comment, a directory that
fills the space between the last member and the end record, each member in bytes of its own. It reads the end
record (22 bytes) first, so that an archive of a million members costs nothing.

Format: PKWARE APPNOTE.TXT 6.3.10.
"""

from __future__ import annotations

import re
import stat
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from modelport.convert.hostile.refusals import Place, reading, regular_file

MAX_MEMBERS = 50_000
MAX_DIRECTORY_BYTES = 16 << 20
# Weights hardly compress. Beyond this many bytes, members that unpack to more than RATIO times their size are bombs.
MAX_FREE_BYTES = 64 << 20
MAX_RATIO = 50

_STORED, _DEFLATED = 0, 8
_BLOCK = 1 << 20
_ENCRYPTED_FLAGS = 0x1 | 0x40 | 0x2000
_UTF8_FLAG = 0x800
_ZIP64_EXTRA, _UNICODE_PATH_EXTRA = 0x0001, 0x7075
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_FILLED16, _FILLED32 = 0xFFFF, 0xFFFFFFFF
_BAD_NAME = re.compile(r"[\x00-\x1f\x7f\\]|^/|^[A-Za-z]:|(^|/)\.{0,2}(/|$)")


@dataclass(frozen=True, kw_only=True)
class Member:
    """One member of an archive.

    Args:
        name: Path inside the archive, `/` between its parts; a folder's name ends with `/`.
        deflated: Whether it is compressed.
        packed_bytes: Size in the archive.
        size_bytes: Size after unpacking.
        offset: Where its data begin in the archive.
        crc: CRC-32 of the unpacked data.
    """

    name: str
    deflated: bool
    packed_bytes: int
    size_bytes: int
    offset: int
    crc: int


@dataclass(frozen=True, kw_only=True)
class _Entry:
    member: Member
    header: int
    raw_name: bytes


def check_zip(path: Path) -> Mapping[str, Member]:
    """Refuse an archive that unpacks without end, outside its folder, or in more than one way.

    Args:
        path: The file.

    Returns:
        Its members by name, in the directory's order.

    Raises:
        SourceFormatError: It is missing, no zip archive, cut off, damaged, or encrypted.
        UnsafeSourceError: A zip bomb, too many members, `..` or absolute names, links, duplicates, overlaps.
    """
    size = regular_file(path)
    place = Place(path=path)
    with reading(place), path.open("rb") as file:
        return members_of(file, size, place)


def members_of(file: BinaryIO, size: int, place: Place) -> Mapping[str, Member]:
    """The members of an open archive of `size` bytes, checked as in `check_zip`."""
    start, count, length = _directory(file, size, place)
    file.seek(start)
    entries = _entries(file.read(length), count, place)
    _check_names([entry.member.name for entry in entries], place)
    _check_sizes([entry.member for entry in entries], place)
    return {entry.member.name: entry.member for entry in _located(file, entries, start, place)}


def read(file: BinaryIO, member: Member, place: Place, *, limit: int) -> bytes:
    """The unpacked content of a member.

    Args:
        file: The open archive.
        member: One of its members.
        place: The archive.
        limit: Largest accepted size in bytes.

    Raises:
        SourceFormatError: It is larger than `limit`, or damaged.
    """
    here = place.inside(member.name)
    if member.size_bytes > limit:
        raise here.malformed(f"it holds {member.size_bytes} bytes, more than the {limit} that such a member may have")
    file.seek(member.offset)
    data = file.read(member.packed_bytes)
    if member.deflated:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size_bytes + 1)
        except zlib.error as exc:
            raise here.malformed("its compressed data are damaged", why=str(exc)) from exc
    if len(data) != member.size_bytes:
        raise here.malformed("it unpacks to another size than the archive states")
    _check_sum(zlib.crc32(data), member, here)
    return data


def check_stored(file: BinaryIO, member: Member, place: Place) -> None:
    """Check the content of a member that is not compressed against its checksum, without holding it in memory."""
    file.seek(member.offset)
    left, crc = member.packed_bytes, 0
    while left and (block := file.read(min(left, _BLOCK))):
        left -= len(block)
        crc = zlib.crc32(block, crc)
    _check_sum(crc, member, place.inside(member.name))


def _check_sum(crc: int, member: Member, here: Place) -> None:
    if member.crc not in (crc, 0):  # 0: torch was told not to compute checksums
        raise here.malformed("its content does not have the checksum that the archive states")


def _directory(file: BinaryIO, size: int, place: Place) -> tuple[int, int, int]:
    """Offset of the directory, number of entries, length in bytes."""
    file.seek(max(0, size - _END.size))
    end = file.read(_END.size)
    if len(end) < _END.size or not end.startswith(b"PK\x05\x06") or not end.endswith(b"\0\0"):
        raise place.malformed(
            "the zip archive has no end record where one belongs",
            why="it is cut off, or something was appended to it (archives with a comment are not read either)",
        )
    _, disk, first_disk, here, count, length, start, _ = _END.unpack(end)
    stop = size - _END.size
    if stop >= _LOCATOR64.size + _END64.size:
        file.seek(stop - _LOCATOR64.size)
        locator = file.read(_LOCATOR64.size)
        if locator.startswith(b"PK\x06\x07"):
            stop -= _LOCATOR64.size + _END64.size
            short = (disk, first_disk, here, count, length, start)
            disk, first_disk, here, count, length, start = _long_directory(file, stop, locator, short, place)
    if disk or first_disk or here != count:
        raise place.malformed("this is one part of a zip archive in several files", fix="join the parts first")
    if count > MAX_MEMBERS or length > MAX_DIRECTORY_BYTES:
        raise place.unsafe(
            f"the zip archive has {count} members in a directory of {length} bytes",
            why=f"a model needs at most {MAX_MEMBERS}; archives like this only exhaust memory",
        )
    if start + length != stop:
        raise place.malformed("the zip archive's directory is not where its end record says")
    return start, count, length


def _long_directory(
    file: BinaryIO, stop: int, locator: bytes, short: tuple[int, ...], place: Place
) -> tuple[int, int, int, int, int, int]:
    """The fields of the zip64 end record, which must agree with the `short` record's."""
    _, _, offset, _ = _LOCATOR64.unpack(locator)
    file.seek(stop)
    record = file.read(_END64.size)
    if offset != stop or not record.startswith(b"PK\x06\x06"):
        raise place.malformed("the zip archive's zip64 end record is not where its locator says")
    _, _, _, _, disk, first_disk, here, count, length, start = _END64.unpack(record)
    found = (disk, first_disk, here, count, length, start)
    for old, new, filled in zip(short, found, (_FILLED16,) * 4 + (_FILLED32,) * 2, strict=True):
        if old not in (new, filled):
            raise place.unsafe(
                "the zip archive has two end records that disagree",
                why="programs would read different members out of it",
            )
    return found


def _entries(directory: bytes, count: int, place: Place) -> list[_Entry]:
    entries: list[_Entry] = []
    at = 0
    try:
        while at < len(directory):
            if len(entries) == count:
                raise place.malformed("the zip archive's directory has more entries than its end record says")
            entry, at = _entry(directory, at, place)
            entries.append(entry)
    except (struct.error, IndexError) as exc:
        raise place.malformed("the zip archive's directory is damaged", why=str(exc)) from exc
    if len(entries) != count:
        raise place.malformed("the zip archive's directory has fewer entries than its end record says")
    return entries


def _entry(directory: bytes, at: int, place: Place) -> tuple[_Entry, int]:
    """The entry at offset `at` of the directory, and the offset of the next one."""
    (signature, _, _, flags, method, _, _, crc, packed, size, *rest) = _ENTRY.unpack_from(directory, at)
    name_length, extra_length, comment_length, _, _, attributes, header = rest
    at += _ENTRY.size
    raw_name = directory[at : at + name_length]
    extra = directory[at + name_length : at + name_length + extra_length]
    at += name_length + extra_length + comment_length
    if signature != b"PK\x01\x02" or at > len(directory):
        raise place.malformed("the zip archive's directory is damaged")
    try:
        name = raw_name.decode("utf-8" if flags & _UTF8_FLAG else "cp437")
    except UnicodeDecodeError as exc:
        raise place.malformed("the zip archive's directory has an unreadable name", why=str(exc)) from exc
    here = place.inside(name)
    if flags & _ENCRYPTED_FLAGS:
        raise here.malformed("this member is encrypted", why="a password is needed", fix="decrypt the archive first")
    if method not in (_STORED, _DEFLATED):
        raise here.malformed(f"compression method {method} is not used by model files", fix="save the model again")
    if stat.S_IFMT(attributes >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise here.unsafe("this member is a link or a special file", why="unpacked, it would point outside the archive")
    size, packed, header = _long_sizes(extra, size, packed, header, here)
    if (method == _STORED and size != packed) or (name.endswith("/") and size):
        raise here.malformed("its two sizes disagree")
    member = Member(
        name=name, deflated=method == _DEFLATED, packed_bytes=packed, size_bytes=size, offset=header, crc=crc
    )
    return _Entry(member=member, header=header, raw_name=raw_name), at


def _long_sizes(extra: bytes, size: int, packed: int, header: int, here: Place) -> tuple[int, int, int]:
    """Size, packed size and offset, taken from the zip64 extra field where the short ones are filled up."""
    values = [size, packed, header]
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        content = extra[at + 4 : at + 4 + length]
        if kind == _UNICODE_PATH_EXTRA:
            raise here.unsafe("this member has a second name", why="programs would read it under different names")
        if kind == _ZIP64_EXTRA:
            wide = [number for (number,) in struct.iter_unpack("<Q", content[: len(content) // 8 * 8])]
            for index, value in enumerate(values):
                if value == _FILLED32 and wide:
                    values[index] = wide.pop(0)
        at += 4 + length
    return values[0], values[1], values[2]


def _check_names(names: list[str], place: Place) -> None:
    seen: set[str] = set()
    for name in names:
        if not name or _BAD_NAME.search(name.removesuffix("/")):
            raise place.unsafe(
                f"a member is named {name!r}", why="unpacked, it would be written outside the archive's folder"
            )
        key = name.casefold()  # torch's zip reader takes names that differ in case for the same
        if key in seen:
            raise place.unsafe(f"two members are named {name!r}", why="programs would read different ones of them")
        seen.add(key)


def _check_sizes(members: list[Member], place: Place) -> None:
    deflated = [member for member in members if member.deflated]
    sizes = [(member.name, member.size_bytes, member.packed_bytes) for member in deflated]
    sizes.append(("all of it", sum(m.size_bytes for m in deflated), sum(m.packed_bytes for m in deflated)))
    for name, size, packed in sizes:
        if size > MAX_FREE_BYTES and size > MAX_RATIO * packed:
            raise place.unsafe(
                f"{name!r} unpacks from {packed} to {size} bytes",
                why=f"weights do not compress {MAX_RATIO} times; this is a zip bomb",
            )


def _located(file: BinaryIO, entries: list[_Entry], stop: int, place: Place) -> list[_Entry]:
    """The entries with the offset of their data, each in bytes of its own before `stop`."""
    found: dict[str, _Entry] = {}
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header):
        here = place.inside(entry.member.name)
        if entry.header < end:
            raise here.unsafe("this member shares bytes with another one", why="this is how zip bombs are made")
        file.seek(entry.header)
        local = file.read(_LOCAL.size + len(entry.raw_name))
        if len(local) < _LOCAL.size + len(entry.raw_name):
            raise here.malformed("its header lies outside the archive")
        signature, _, flags, method, _, _, _, _, _, name_length, extra_length = _LOCAL.unpack_from(local)
        if signature != b"PK\x03\x04":
            raise here.malformed("its header is not where the directory says")
        deflated = method == _DEFLATED
        if name_length != len(entry.raw_name) or local[_LOCAL.size :] != entry.raw_name:
            raise here.unsafe("its header states another name than the directory", why="programs would disagree on it")
        if deflated != entry.member.deflated or flags & _ENCRYPTED_FLAGS:
            raise here.unsafe("its header contradicts the directory", why="programs would disagree on its content")
        offset = entry.header + _LOCAL.size + name_length + extra_length
        end = offset + entry.member.packed_bytes
        if end > stop:
            raise here.malformed("its data do not fit into the archive")
        found[entry.member.name] = replace(entry, member=replace(entry.member, offset=offset))
    return [found[entry.member.name] for entry in entries]
