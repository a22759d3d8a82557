"""The access log on the disk, read on from where it was read before: for whoever counts what it says.

A log is known by its first line, in which stands a request's own number: so it stays the same one when it is put aside,
or copied to another disk, and a new one is never taken for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec

READ_BYTES = 1 << 20  # at a time; a line is far shorter
_FIRST_MOST = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Whole lines of a log that were not read before.

    Attributes:
        name: Of the log.
        known: Up to where it had been read, in bytes.
        end: Up to where it is read now; less than `known` where a crash of the machine took the end of the log.
        lines: What stands there.
    """

    name: str
    known: int
    end: int
    lines: bytes


LARGEST = 1 << 53  # more than any figure of a request
_Bytes = Annotated[int, msgspec.Meta(ge=0, lt=LARGEST)]


class Line(msgspec.Struct, frozen=True, gc=False):
    """One request, as `envoy/listener.py` has it written. What does not apply to it is empty.

    Attributes:
        time: When it began, such as `2026-03-04T05:06:07.890Z`.
        status: Of HTTP; 0 where the caller went away before.
        tenant: Whose key it had.
        kind: What was asked for, `infer` for an answer of a model.
        model: Name of a model that there is.
        version: That was asked, or that a route chose; empty where Triton chooses.
        drawn: `1` where a route chose the version, and not the caller.
        passed: `1` where it passed all checks of the gate.
        inferences: Its rows.
        grpc_status: Number of the status, over gRPC.
        received_bytes: Of its body.
        sent_bytes: Of the answer's body.
        us: Microseconds from its first byte to the answer's last; empty where there was no last.
        server_us: Microseconds that the server took.
        ms: Milliseconds until it ended, in whatever way.
        sent_ms: Milliseconds until the server had all of it.
        upstream: Address of the server that had it.
        flags: Envoy's words for what went wrong, by commas; `-` for nothing.
    """

    time: str
    status: int
    tenant: str = ""
    kind: str = ""
    model: str = ""
    version: str = ""
    drawn: str = ""
    passed: str = ""
    inferences: str = ""
    grpc_status: str = ""
    received_bytes: _Bytes = 0
    sent_bytes: _Bytes = 0
    us: str = ""
    server_us: str = ""
    ms: str = ""
    sent_ms: str = ""
    upstream: str = ""
    flags: str = "-"


_decode = msgspec.json.Decoder(Line).decode


def requests(lines: bytes) -> Iterator[Line | None]:
    """What the lines say; None for one that cannot be read.

    Args:
        lines: Whole lines.
    """
    for line in lines.splitlines():
        try:
            yield _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            yield _end_of(line)


def _end_of(line: bytes) -> Line | None:
    """The request that begins in the middle of a line, of which a killed Envoy had written the beginning."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        return _decode(line[line.rfind(b'{"') :])  # in a line this stands at its beginning, and nowhere else
    return None


def pieces(log: Path, offset_of: Callable[[str], int]) -> Iterator[Piece]:
    """What was not read before: first of the log that was put aside, then of the log itself.

    Args:
        log: The access log.
        offset_of: Gives up to where a log was read; 0 for one that is not known.

    Raises:
        OSError: A file is there and cannot be read.
    """
    for path in (aside(log), log):
        try:
            file = path.open("rb")
        except FileNotFoundError:
            continue
        with file:
            first = file.readline(_FIRST_MOST)
            if first.endswith(b"\n") or len(first) == _FIRST_MOST:
                name = hashlib.blake2b(first, digest_size=16).hexdigest()
                yield from _rest(file, name, offset_of(name))


def aside(log: Path) -> Path:
    """Where an access log is put that has grown large; it is read to its end from there."""
    return log.with_name(f"{log.name}.1")


def _rest(file: BinaryIO, name: str, known: int) -> Iterator[Piece]:
    size = os.fstat(file.fileno()).st_size
    if size < known:
        yield Piece(name=name, known=known, end=size, lines=b"")
        known = size
    while True:
        file.seek(known)
        chunk = file.read(READ_BYTES)
        whole = chunk.rfind(b"\n") + 1
        if not whole and len(chunk) == READ_BYTES:
            whole = READ_BYTES  # no line of ours: what a crash of the machine leaves, which must not be in the way
        if not whole:
            return
        yield Piece(name=name, known=known, end=known + whole, lines=chunk[:whole])
        known += whole
