"""C7, C8, D1, D2 and smuggling: how much is sent, in how many pieces, how fast, and what is said about that."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import select
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from modelport.gateway.capture import stored as captured
from modelport.gateway.gateway import Gateway
from modelport.gateway.settings import Settings

BODY_BYTES = 2 << 20  # as conftest.py sets them
BODY_S = 1.5
INFER = "/v2/models/double/infer"
RIGHT = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}).encode()
HEAD = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}}]}
).encode()
RAW = HEAD + struct.pack("<4f", 1, 2, 3, 4)
FIELD = "inference_header_content_length"


@pytest.mark.parametrize(
    "value",
    [
        *("-1", "abc", "", "0", "2147483648", "99999999999", "18446744073709551616", "9" * 400, str(len(RAW) + 1)),
        *(f"+{len(HEAD)}", f"{len(HEAD)}.0", "0x10", "1e2", f"{len(HEAD)},{len(HEAD)}", "\u0663"),
    ],
)
def test_a_wrong_length_of_the_json_part_gets_400_and_reaches_no_server(setup, front, value):
    before = setup.asked()
    head = front.head("POST", INFER, content_length=len(RAW)).decode("latin-1")
    line = f"inference-header-content-length: {value}\r\n\r\n".encode().decode("latin-1")
    said = front.raw((head[:-2] + line).encode("latin-1"), RAW)
    assert said.status == 400, said
    assert said.code == "bad_request"
    assert setup.asked() == before


@pytest.mark.parametrize("off", [-1, 1])
def test_a_length_of_the_json_part_that_cuts_it_or_takes_data_in_gets_400(front, off):
    assert front.http("POST", INFER, RAW, **{FIELD: len(HEAD) + off}).status == 400


@pytest.mark.parametrize("name", ["Inference-Header-Content-Length", "INFERENCE-HEADER-CONTENT-LENGTH", FIELD])
def test_the_length_is_one_in_any_letters_and_twice_it_is_refused(front, name):
    assert front.http("POST", INFER, RAW, **{name: len(HEAD)}).status == 200
    for other in (len(HEAD), 1):
        head = front.head("POST", INFER, content_length=len(RAW), **{name: len(HEAD)})
        said = front.raw(head[:-2] + f"inference-header-content-length: {other}\r\n\r\n".encode(), RAW)
        assert said.status == 400, said


@pytest.mark.parametrize("size", [-1, 0, 15, 17, 1 << 31, 1 << 40, 1 << 63, (1 << 64) - 16, 1 << 64, 1.5, "16", [16]])
def test_a_wrong_size_of_raw_data_gets_400(front, size):
    head = json.dumps(
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": size}}]}
    ).encode()
    said = front.http("POST", INFER, head + RAW[-16:], **{FIELD: len(head)})
    assert said.status == 400, said


@pytest.mark.parametrize("upgrade", ["websocket", "TLS/1.3", "anything"])
def test_what_wants_another_protocol_is_refused_at_once(setup, front, upgrade):
    headers = {"connection": "Upgrade", "upgrade": upgrade, "sec-websocket-version": 13}
    headers |= {"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}
    started, before = time.monotonic(), setup.asked()
    for path in (INFER, "/v2/health/live"):
        method, body = ("POST", RIGHT) if path == INFER else ("GET", None)
        said = front.http(method, path, body, **headers)
        assert (said.status, said.code) == (400, "bad_request"), said
    assert time.monotonic() - started < BODY_S and setup.asked() == before
    headers["upgrade"] = "h2c"  # Envoy takes that off, and goes on with HTTP/1.1
    assert front.http("POST", INFER, RIGHT, **headers).status == 200


@pytest.mark.parametrize("version", ["1.0", "0.9"])
def test_http_before_1_1_is_refused(front, version):
    said = front.raw(f"GET /v2/health/live HTTP/{version}\r\n\r\n".encode())
    assert (said.status, said.code) in ((426, "bad_request"), (400, "bad_request")), said
    assert version == "0.9" or said.status == 426


def padded(size: int) -> bytes:
    """A right request of that many bytes."""
    return RIGHT + b" " * (size - len(RIGHT))


def message(size: int) -> bytes:
    """The same over gRPC, with the five bytes before a message."""
    request = service_pb2.ModelInferRequest(model_name="double", raw_input_contents=[np.ones(4, "f").tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    spare = size - 5 - request.ByteSize()
    for length in range(spare - 6, spare):
        request.id = "i" * length
        if request.ByteSize() + 5 == size:
            return request.SerializeToString()
    raise AssertionError(f"no message has {size} bytes")


@pytest.mark.parametrize(("more", "status"), [(-1, 200), (0, 200), (1, 413)])
def test_a_body_may_be_as_long_as_the_limit(front, more, status):
    said = front.http("POST", INFER, padded(BODY_BYTES + more))
    assert said.status == status, said.body[:200]
    in_chunks = padded(BODY_BYTES + more)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(in_chunks), in_chunks)
    said = front.raw(front.head("POST", INFER, transfer_encoding="chunked"), chunked)
    assert said.status == status, said.body[:200]
    assert said.status == 200 or said.code == "too_large"
    answer = front.call("ModelInfer", message(BODY_BYTES + more))
    if status == 200:
        assert isinstance(answer, bytes), answer
    else:
        assert answer.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, answer


def test_a_body_that_is_shorter_than_it_says_ends_in_408_in_time(front):
    started = time.monotonic()
    said = front.raw(front.head("POST", INFER, content_length=len(RIGHT) + 10), RIGHT, timeout_s=5 * BODY_S)
    assert said.status == 408, said
    assert said.code == "timeout"
    assert BODY_S * 0.5 < time.monotonic() - started < BODY_S * 3


BEGINS = {
    "slow": (408, {"content_length": 10_000}, b" ", 0.1),
    "chunks": (408, {"transfer_encoding": "chunked"}, b"1\r\n \r\n", 0.1),
    "endless": (413, {"transfer_encoding": "chunked"}, b"10000\r\n" + b" " * 65536 + b"\r\n", 0.002),
    "headers": (408, None, b"a: b\r\n", 0.2),
}


def test_slow_and_endless_bodies_and_slow_headers_end_in_time(front):
    """All at once: each sends on until there is an answer."""

    def status_of(name: str) -> tuple[int, float]:
        _, headers, piece, pause_s = BEGINS[name]
        started = time.monotonic()
        with contextlib.closing(front.connect(10 * BODY_S)) as sock:
            sock.sendall(b"POST /v2 HTTP/1.1\r\n" if headers is None else front.head("POST", INFER, **headers))
            while not select.select([sock], [], [], pause_s)[0]:
                sock.sendall(piece)
            return int(sock.recv(100).split(b" ")[1]), time.monotonic() - started

    with ThreadPoolExecutor() as pool:
        found = dict(zip(BEGINS, pool.map(status_of, BEGINS), strict=True))
    assert {name: status for name, (status, _) in found.items()} == {name: one[0] for name, one in BEGINS.items()}
    assert max(seconds for _, seconds in found.values()) < 3 * BODY_S


def test_a_million_chunks_of_one_byte_are_answered_and_take_little_memory(setup, front):
    count = 1_000_000
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in padded(count))
    with setup.peak(setup.gateway.pid) as gateway, setup.peak(setup.server.pid) as server:
        said = front.raw(front.head("POST", INFER, transfer_encoding="chunked"), chunks, b"0\r\n\r\n", timeout_s=30)
    assert said.status == 200, said
    assert gateway() < 32 << 20
    assert server() < 32 << 20


def test_memory_that_is_taken_would_be_seen(setup):
    """Negative control of the one above."""
    take = "input('up'); taken = b'x' * (48 << 20); input('taken')"
    with subprocess.Popen([sys.executable, "-u", "-c", take], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as taker:
        assert taker.stdout.read(2) == b"up"
        with setup.peak(taker.pid) as grown:
            os.write(taker.stdin.fileno(), b"\n")
            assert taker.stdout.read(5) == b"taken"
        assert grown() > 32 << 20
        os.write(taker.stdin.fileno(), b"\n")


def test_requests_are_refused_while_held_ones_take_the_memory_and_answered_afterwards(setup, everything, tmp_path):
    settings = Settings(port=0, upstreams=setup.gateway.settings.upstreams, memory_bytes=64 << 20, workers=1)
    gateway = Gateway(setup.gateway.repository, settings, folder=tmp_path / "g")
    gateway.start()
    try:
        place = type(everything)("127.0.0.1", gateway.settings.port, gateway.settings.port, token=everything.token)
        assert place.infer("double", RIGHT).status == 200
        with contextlib.ExitStack() as held:
            for _ in range(5):
                sock = held.enter_context(contextlib.closing(place.connect()))
                with contextlib.suppress(OSError):  # the last may be refused already
                    sock.sendall(place.head("POST", INFER, content_length=16 << 20) + b" " * (15 << 20))
            assert soon(place, 503).code == "overloaded"
            answer = place.call("ModelInfer", message(10_000))
            assert answer.code() == grpc.StatusCode.UNAVAILABLE, answer
        assert soon(place, 200).status == 200
    finally:
        gateway.stop()


def soon(place, status: int):
    """The answer to a right request, once it has this status."""
    deadline = time.monotonic() + 5
    while (said := place.infer("double", RIGHT)).status != status and time.monotonic() < deadline:
        time.sleep(0.05)
    assert said.status == status
    return said


ENCODED = {
    "gzip": gzip.compress(b"\0" * (100 << 20), 9),
    "gzip, gzip": gzip.compress(gzip.compress(RIGHT)),
    "deflate": RIGHT,
    "br": RIGHT,
    "zstd": RIGHT,
    "GZIP": gzip.compress(RIGHT),
    "x-gzip": gzip.compress(RIGHT),
    "identity, gzip": gzip.compress(RIGHT),
    "": RIGHT,
    "something": RIGHT,
}


@pytest.mark.parametrize("encoding", ENCODED)
def test_compressed_requests_get_415(setup, front, encoding):
    before = setup.asked()
    with setup.peak() as grown:
        said = front.http("POST", INFER, ENCODED[encoding], content_encoding=encoding)
    assert said.status == 415, said
    assert said.code == "unsupported"
    assert grown() < 16 << 20
    assert setup.asked() == before


def test_compressed_grpc_requests_are_refused(setup, front):
    before = setup.asked()
    answer = front.call("ModelInfer", message(10_000), compression=grpc.Compression.Gzip)
    assert answer.code() == grpc.StatusCode.UNIMPLEMENTED, answer
    assert setup.asked() == before


def test_the_same_compressed_requests_are_taken_by_triton(direct, front):
    """Negative control: Triton unpacks them."""
    assert direct.http("POST", INFER, gzip.compress(RIGHT), content_encoding="gzip").status == 200
    assert isinstance(direct.call("ModelInfer", message(10_000), compression=grpc.Compression.Gzip), bytes)
    assert front.http("POST", INFER, RIGHT, content_encoding="identity").status == 200


SMUGGLED = b"GET /v2/repository/index HTTP/1.1\r\nhost: a\r\n\r\n"
CONFUSING = {
    "both": b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "both_turned": b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two_lengths": b"content-length: 0\r\ncontent-length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
    "list_of_lengths": b"content-length: 0, %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
    "negative": b"content-length: -1\r\n\r\n" + SMUGGLED,
    "plus": b"content-length: +5\r\n\r\n" + SMUGGLED,
    "twice_chunked": b"transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "identity": b"transfer-encoding: identity\r\ncontent-length: 0\r\n\r\n" + SMUGGLED,
    "unknown": b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "blank_in_name": b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "folded": b"x: y\r\n transfer-encoding: chunked\r\n\r\n" + SMUGGLED,
    "return_alone": b"x: y\rtransfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n" + SMUGGLED,
    "zero_in_value": b"x: a\0b\r\ncontent-length: 0\r\n\r\n" + SMUGGLED,
    "chunk_size": b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + SMUGGLED,
    "chunk_negative": b"transfer-encoding: chunked\r\n\r\n-1\r\n" + SMUGGLED,
}


@pytest.mark.parametrize("case", CONFUSING)
def test_a_request_whose_length_can_be_read_in_two_ways_reaches_no_server(setup, front, case):
    before = setup.asked()
    head = front.head("POST", INFER).removesuffix(b"\r\n")
    said = front.raw(head + CONFUSING[case], timeout_s=3 * BODY_S)
    assert 400 <= said.status < 502, said
    assert said.json.keys() == {"error", "code"}
    assert setup.asked() == before


def test_two_requests_in_one_connection_are_two_and_each_needs_a_key(setup, front):
    """Negative control: what follows a request is read as the next one, and refused for itself."""
    before = setup.asked()
    with contextlib.closing(front.connect()) as sock:
        sock.sendall(front.head("POST", INFER, content_length=len(RIGHT)) + RIGHT + SMUGGLED)
        answer = b""
        while b"a valid key" not in answer and (piece := sock.recv(65536)):
            answer += piece
    assert answer.count(b"HTTP/1.1 200") == 1
    assert answer.count(b"HTTP/1.1 401") == 1
    assert setup.asked() == before + 1


def test_an_answer_that_is_captured_may_be_of_any_size(setup, everything):
    """It goes on to its caller while it is copied; Envoy alone would refuse to hold more than a request may be long."""
    repository, count = setup.gateway.repository, 600_000
    data = b",".join([b"1"] * count)
    request = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, %d], "data": [%s]}]}' % (count, data)
    captured.put(repository, captured.Rule(model="free", part=1.0))
    try:
        assert "gate" in setup.gateway.refresh()
        time.sleep(0.2)
        said = everything.infer("free", request)
        assert said.status == 200, said
        assert len(said.body) > BODY_BYTES
        assert said.json["outputs"][0]["shape"] == [1, count]
    finally:
        captured.remove(repository, "free")
        setup.gateway.refresh()
