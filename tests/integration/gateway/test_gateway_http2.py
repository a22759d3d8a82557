"""HTTP/2 written by hand: what its frames and headers can say that HTTP/1.1 cannot; Triton never sees any of it."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

DATA, HEADERS, RST, SETTINGS, GOAWAY, CONTINUATION = 0, 1, 3, 4, 7, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
ROW = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}).encode()
Lines = list[tuple[str, str]]


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + content


def packed(lines: Iterable[tuple[str, str]]) -> bytes:
    """Headers as HPACK writes them without its table (RFC 7541, 6.2.2)."""
    out = b""
    for pair in lines:
        out += b"\0"
        for text in pair:
            raw = text.encode("latin-1")
            out += bytes([len(raw)]) if len(raw) < 127 else b"\x7f" + varint(len(raw) - 127)
            out += raw
    return out


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def request(
    place: Any, path: str = "/v2/models/double/infer", method: str = "POST", more: Lines | None = None
) -> Lines:
    key = [("authorization", f"Bearer {place.token}")]
    return [(":method", method), (":scheme", "https"), (":authority", "a"), (":path", path), *key, *(more or [])]


def ask(place: Any, *frames: bytes) -> bytes:
    """What comes back until stream 1 or the connection ends: the frames' contents, and what ended it."""
    with contextlib.closing(place.connect(5, alpn="h2")) as sock:
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0))
        buffer, found = sock.recv(65536), b""  # the other side's settings: its windows hold once they are acknowledged
        with contextlib.suppress(OSError):
            sock.sendall(frame(SETTINGS, ACK, 0) + b"".join(frames))
        while True:
            while len(buffer) < 9 or len(buffer) < 9 + int.from_bytes(buffer[:3], "big"):
                try:
                    piece = sock.recv(65536)
                except OSError:
                    piece = b""
                if not piece:
                    return found + b" CLOSED"
                buffer += piece
            size, kind, flags = int.from_bytes(buffer[:3], "big"), buffer[3], buffer[4]
            content, buffer = buffer[9 : 9 + size], buffer[9 + size :]
            if kind in (RST, GOAWAY):
                return found + (b" RST" if kind == RST else b" GOAWAY")
            if kind == DATA:
                found += content
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                return found


def test_a_right_request_is_answered(setup, front):
    """Negative control: these frames are right."""
    before = setup.asked()
    head = frame(HEADERS, END_HEADERS, 1, packed(request(front)))
    assert b'"data":[2.0,4.0,6.0,8.0]' in ask(front, head, frame(DATA, END_STREAM, 1, ROW))
    pieces = [frame(DATA, 0, 1, ROW[at : at + 1]) for at in range(len(ROW))]
    assert b'"data":[2.0,4.0,6.0,8.0]' in ask(front, head, *pieces, frame(DATA, END_STREAM, 1))
    padded = [("content-length", str(len(ROW))), ("te", "trailers")]
    head = frame(HEADERS, END_HEADERS, 1, packed(request(front, more=padded)))
    assert b'"data":[2.0,4.0,6.0,8.0]' in ask(front, head, frame(DATA, END_STREAM, 1, ROW))
    assert setup.asked() == before + 3


def test_a_million_frames_of_one_byte_are_answered_and_take_little_memory(setup, front):
    head = frame(HEADERS, END_HEADERS, 1, packed(request(front)))
    blanks = frame(DATA, 0, 1, b" ") * 1_000_000
    with setup.peak() as grown:
        said = ask(front, head, blanks, frame(DATA, END_STREAM, 1, ROW))
    assert b'"data":[2.0,4.0,6.0,8.0]' in said
    assert grown() < 32 << 20


INDEX = "/v2/repository/index"
SMUGGLED = f"POST {INDEX} HTTP/1.1\r\nhost: a\r\n\r\n"
MORE = {
    "transfer_encoding": [("transfer-encoding", "chunked")],
    "connection": [("connection", "close, authorization")],
    "upgrade": [("connection", "upgrade"), ("upgrade", "h2c")],
    "te": [("te", "gzip")],
    "upper_case": [("Content-Type", "application/json")],
    "two_paths": [(":path", INDEX)],
    "two_methods": [(":method", "GET")],
    "unknown_pseudo": [(":other", "x")],
    "pseudo_behind": [("a", "b"), (":path", INDEX)],
    "protocol": [(":protocol", "websocket")],
    "line_in_value": [("a", f"b\r\n{SMUGGLED}")],
    "line_in_name": [("a\r\nb", "c")],
    "zero_in_value": [("a", "b\0c")],
    "colon_in_name": [("a:b", "c")],
    "blank_in_name": [("a b", "c")],
    "empty_name": [("", "c")],
    "length_too_short": [("content-length", "1")],
    "length_too_long": [("content-length", "100000")],
    "two_lengths": [("content-length", str(len(ROW))), ("content-length", "0")],
    "many_headers": [(f"a{n}", "b") for n in range(200)],
    "large_header": [("a", "b" * 15_000), ("c", "d" * 15_000)] * 4,
}


def in_pieces(lines: Lines) -> bytes:
    """The frames of headers of any size."""
    block = packed(lines)
    pieces = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
    kinds = [HEADERS, *[CONTINUATION] * (len(pieces) - 1)]
    flags = [*[0] * (len(pieces) - 1), END_HEADERS]
    return b"".join(frame(kind, flag, 1, piece) for kind, flag, piece in zip(kinds, flags, pieces, strict=True))


PATHS = [
    *("", "*", "v2/models/double/infer", "/v2/models/double/infer#/x", "/v2/models/double/infer\0", INDEX),
    *(f"/v2/models/double/infer HTTP/1.1\r\n{SMUGGLED}", "/v2/models/double/../../repository/index"),
    *("//v2/models/double/infer", "/v2/models/double/infer "),
]
METHODS = ["CONNECT", "PRI", "POST GET", "post", "", "HEAD", "OPTIONS"]


def test_what_http1_could_not_say_reaches_no_server(setup, front):
    """Headers, paths and methods; all at once, as Envoy takes a second to close a connection."""
    before = setup.asked()
    asked = {f"header {case}": request(front, more=more) for case, more in MORE.items()}
    asked.update((f"path {path}", request(front, path)) for path in PATHS)
    asked.update((f"method {method}", request(front, method=method)) for method in METHODS)
    with ThreadPoolExecutor(len(asked)) as pool:
        end = frame(DATA, END_STREAM, 1, ROW)
        said = dict(zip(asked, pool.map(lambda lines: ask(front, in_pieces(lines), end), asked.values()), strict=True))
    assert {case: answer for case, answer in said.items() if b'"data"' in answer} == {}
    assert setup.asked() == before


def test_headers_in_trailers_change_nothing(setup, front):
    """Trailers of a request end at the gateway, the model's and the key's among them."""
    head = frame(HEADERS, END_HEADERS, 1, packed(request(front)))
    trailers = [("triton-grpc-protocol-modelport-control", "x"), ("inference-header-content-length", "1"), ("a", "b")]
    end = frame(HEADERS, END_HEADERS | END_STREAM, 1, packed(trailers))
    assert b'"data":[2.0,4.0,6.0,8.0]' in ask(front, head, frame(DATA, 0, 1, ROW), end)
    nobody = [line for line in request(front) if line[0] != "authorization"]
    head = frame(HEADERS, END_HEADERS, 1, packed(nobody))
    end = frame(HEADERS, END_HEADERS | END_STREAM, 1, packed([("authorization", f"Bearer {front.token}")]))
    before = setup.asked()
    assert b"a valid key is needed" in ask(front, head, frame(DATA, 0, 1, ROW), end)
    assert setup.asked() == before


def test_floods_of_frames_end_the_connection(setup, front):
    """Streams that are opened and reset, empty frames, settings, pings: as many as a server may be asked to bear."""
    before = setup.asked()
    block = packed(request(front))
    resets = b"".join(
        frame(HEADERS, END_HEADERS, stream, block) + frame(RST, 0, stream, struct.pack(">I", 8))
        for stream in range(1, 30_001, 2)
    )
    with setup.peak(setup.gateway.pid) as grown:
        floods = {
            "resets": resets,
            "settings": frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 1)) * 50_000,
            "pings": frame(6, 0, 0, b"12345678") * 50_000,
            "continuations": frame(HEADERS, 0, 1, block) + frame(CONTINUATION, 0, 1, packed([("a", "b")])) * 50_000,
            "empty": frame(HEADERS, END_HEADERS, 1, block) + frame(DATA, 0, 1) * 50_000,
        }
        with ThreadPoolExecutor() as pool:
            said = dict(zip(floods, pool.map(lambda flood: ask(front, flood), floods.values()), strict=True))
    assert [name for name, answer in said.items() if not answer.endswith((b"CLOSED", b"GOAWAY", b"RST"))] == []
    assert grown() < 256 << 20  # 15,000 streams may be waiting for their end at once
    assert setup.asked() == before
