"""One file of captured requests, each encrypted for itself with AES-256-GCM.

    prefix   magic, key id, the file's own random id, when it begins, seconds that it may live
    record   two lengths, a header as JSON (model, version, time), a fresh nonce, the encrypted request and its tag
    ...
    end      a record that says how many there are; written when the file is finished

Each record is sealed together with the prefix, its place in the file, and its header: nothing can be changed, moved,
left out, or come from another file, without being found. What cannot be found: that a whole file is missing, or that
the last records are missing in a file that nobody finished, as one of which the writer was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from modelport.gateway.capture.secret import Key

OPEN, FINISHED = ".open", ".sealed"
NONCE_BYTES, TAG_BYTES = 12, 16
HEADER_MOST = 1024
_MAGIC = b"mpcapt1\n"
_PREFIX = struct.Struct(">8s8s16sQQ")
_SIZES = struct.Struct(">II")
_PLACE = struct.Struct(">Q")
_NAME = re.compile(r"(\d{10,11})-(\d{1,9})-[0-9a-f]{8}(?:\.open|\.sealed)")
_WRITING_S = 2.0  # a record that is not whole yet may be on its way for so long


@dataclass(frozen=True, kw_only=True)
class Head:
    """What is known of a record without the key; changing it breaks the seal.

    Attributes:
        model: Model name.
        version: The version that answered; None where nobody told.
        at: When, in seconds since 1970.
    """

    model: str
    version: int | None
    at: float


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A record that is what was written.

    Attributes:
        head: Its header.
        content: What was sealed.
    """

    head: Head
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Damaged:
    """A record, or a file, that is not.

    Attributes:
        where: Such as `record 3 of 1760000000-604800-0a1b2c3d.sealed`.
        why: What is wrong with it.
    """

    where: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}: {self.why}"


def begins_and_lives(path: Path) -> tuple[int, int] | None:
    """When a file begins, and the seconds that it may live, by its name; None for a file that is no segment."""
    found = _NAME.fullmatch(path.name)
    return (int(found[1]), int(found[2])) if found else None


class Writer:
    """Writes one segment. Not for several threads.

    Args:
        folder: Where.
        key: The key.
        begins_at: Seconds since 1970.
        lives_s: Seconds until it is deleted.

    Raises:
        OSError: The disk refuses.
    """

    def __init__(self, folder: Path, key: Key, *, begins_at: int, lives_s: int) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        own = secrets.token_bytes(16)
        self.begins_at, self.lives_s = begins_at, lives_s
        self.path = folder / f"{begins_at}-{lives_s}-{own[:4].hex()}{OPEN}"
        self._cipher = AESGCM(key.secret)
        self._prefix = _PREFIX.pack(_MAGIC, key.id, own, begins_at, lives_s)
        self._count = 0
        self.size = len(self._prefix)
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._write_at(0, self._prefix)

    @property
    def there(self) -> bool:
        """Whether nobody has deleted the file."""
        return os.fstat(self._file).st_nlink > 0

    def append(self, head: Head, content: bytes) -> None:
        """Seal and write a record.

        Raises:
            OSError: The disk refuses; the file is as before.
        """
        self._seal({"model": head.model, "version": head.version, "at": head.at}, content)

    def close(self) -> None:
        """Finish the file. One that was deleted, or that a full disk has no room to finish, stays as it is."""
        try:
            with contextlib.suppress(OSError):
                self._seal({"end": self._count}, b"")
                os.fsync(self._file)
                self.path.rename(self.path.with_suffix(FINISHED))
        finally:
            os.close(self._file)

    def _seal(self, header: dict[str, object], content: bytes) -> None:
        text, nonce = json.dumps(header).encode(), secrets.token_bytes(NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, content, _bound(self._prefix, self._count, text))
        record = _SIZES.pack(len(text), len(sealed)) + text + sealed
        self._write_at(self.size, record)
        self.size += len(record)
        self._count += 1

    def _write_at(self, at: int, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.pwrite(self._file, rest, at + len(data) - len(rest)) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, at)
            raise


def read(path: Path, key: Key, model: str) -> Iterator[Opened | Damaged]:
    """The records of a segment in their order; what is damaged in its place. After damage nothing more of it is read.

    Args:
        path: The file; one that is gone has no records.
        key: The key.
        model: Whose records they must be.
    """
    try:
        with path.open("rb") as file:
            yield from _records(file, path, key, model)
    except FileNotFoundError:  # it expired, or its writer has just finished it
        if path.suffix == OPEN:
            yield from read(path.with_suffix(FINISHED), key, model)
    except OSError as exc:
        yield Damaged(where=path.name, why=f"it cannot be read: {exc.strerror or exc}")


def _records(file: BinaryIO, path: Path, key: Key, model: str) -> Iterator[Opened | Damaged]:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    cipher, prefix = AESGCM(key.secret), file.read(_PREFIX.size)
    wrong = _wrong_prefix(prefix, path, key)
    if wrong:
        yield Damaged(where=path.name, why=wrong)
        return
    count, ended = 0, False
    while lengths := file.read(_SIZES.size):
        where = f"record {count + 1} of {path.name}"
        header, sealed = _next(file, lengths)
        if not sealed:
            if not (path.suffix == OPEN and time.time() - os.fstat(file.fileno()).st_mtime < _WRITING_S):
                yield Damaged(where=where, why="it is cut off, or its length was changed; nothing behind it is read")
            return
        try:
            content = cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _bound(prefix, count, header))
            head = json.loads(header)
        except InvalidTag:
            yield Damaged(where=where, why="it was changed or moved; nothing behind it is read")
            return
        ended = "end" in head
        if ended:
            break
        if head["model"] != model:
            yield Damaged(where=where, why=f"it belongs to another model than {model!r}")
            return
        yield Opened(head=Head(**head), content=content)
        count += 1
    if file.read(1) or (path.suffix == FINISHED and not ended):
        yield Damaged(where=f"record {count + 1} of {path.name}", why="the file's end is missing, or there is more")


def _wrong_prefix(prefix: bytes, path: Path, key: Key) -> str:
    """Why a file cannot be read; empty where it can."""
    if len(prefix) < _PREFIX.size:
        return "it is cut off" if prefix else "it is empty"
    magic, key_id, own, begins_at, lives_s = _PREFIX.unpack(prefix)
    if magic != _MAGIC:
        return "it is no file of captured requests"
    if key_id != key.id:
        return "it was written with another key"
    if path.stem != f"{begins_at}-{lives_s}-{own[:4].hex()}":
        return "it was renamed"
    return ""


def _next(file: BinaryIO, lengths: bytes) -> tuple[bytes, bytes]:
    """Header and sealed content of the record that begins here; empty where it is not whole."""
    if len(lengths) < _SIZES.size:
        return b"", b""
    header_size, sealed_size = _SIZES.unpack(lengths)
    left = os.fstat(file.fileno()).st_size - file.tell()
    if header_size > HEADER_MOST or sealed_size < NONCE_BYTES + TAG_BYTES or header_size + sealed_size > left:
        return b"", b""
    return file.read(header_size), file.read(sealed_size)


def _bound(prefix: bytes, place: int, header: bytes) -> bytes:
    """What is sealed together with a record's content."""
    return prefix + _PLACE.pack(place) + header
