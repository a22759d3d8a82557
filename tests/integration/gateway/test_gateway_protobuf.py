"""gRPC messages that two readers could read in two ways: Triton sees what the gate saw, or nothing."""

from __future__ import annotations

import random
import struct

import grpc
import pytest

ROW = struct.pack("<4f", 1, 2, 3, 4)
DOUBLED = struct.pack("<4f", 2, 4, 6, 8)
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def varint(value: int, length: int = 1) -> bytes:
    """A varint, longer than it needs to be where `length` says so."""
    found = b""
    while value > 127 or len(found) + 1 < length:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])


def field(number: int, content: bytes | int, *, tag_bytes: int = 1, high: int = 0) -> bytes:
    """A field with bytes or with a varint; `high` are bits of its tag that protobuf drops."""
    wire = 0 if isinstance(content, int) else 2
    tag = varint(number << 3 | wire | high << 32, tag_bytes)
    return tag + (varint(content) if isinstance(content, int) else varint(len(content)) + content)


def tensor(
    name: bytes = b"x",
    datatype: bytes = b"FP32",
    shape: bytes = field(3, b"\1\4"),
    more: bytes = b"",
    number: int = 5,
) -> bytes:
    """An input."""
    return field(number, field(1, name) + field(2, datatype) + shape + more)


MODEL, INPUT, DATA = field(1, b"double"), tensor(), field(7, ROW)
NEGATIVE = b"\xff" * 9 + b"\1"
GROUP = b"\x4b\x08\x01\x4c"  # field 9: a group with one field in it
RIGHT = {
    "plain": MODEL + INPUT + DATA,
    "turned": DATA + INPUT + MODEL,
    "unpacked": MODEL + tensor(shape=field(3, 1) + field(3, 4)) + DATA,
    "packed_in_two": MODEL + tensor(shape=field(3, b"\1") + field(3, b"\4")) + DATA,
    "packed_and_not": MODEL + tensor(shape=field(3, b"\1") + field(3, 4)) + DATA,
    "empty_packed": MODEL + tensor(shape=field(3, b"") + field(3, b"\1\4")) + DATA,
    "name_twice": MODEL + tensor(more=field(1, b"x")) + DATA,
    "last_name_counts": MODEL + tensor(name=b"z", more=field(1, b"x")) + DATA,
    "long_varints": MODEL + tensor(shape=field(3, varint(1, 5) + varint(4, 9))) + DATA,
    "long_tag": field(1, b"double", tag_bytes=5) + INPUT + DATA,
    "unknown": MODEL
    + field(100, b"abc")
    + field(101, 7)
    + b"\xc1\x06"
    + b"8" * 8
    + b"\xc5\x06"
    + b"4" * 4
    + INPUT
    + DATA,
    "other_type": MODEL + field(1, 5) + INPUT + DATA,
    "version": MODEL + field(2, b"1") + INPUT + DATA,
    "typed": MODEL + tensor(more=field(5, field(6, ROW))),
    "parameter": MODEL + tensor(more=field(4, field(1, b"any") + field(2, field(3, b"shared")))) + DATA,
}
WRONG = {
    "nothing": b"",
    "no_model": INPUT + DATA,
    "two_models": MODEL + field(1, b"free") + INPUT + DATA,
    "the_same_model_twice": MODEL + MODEL + INPUT + DATA,
    "two_versions": MODEL + field(2, b"1") + field(2, b"2") + INPUT + DATA,
    "model_in_a_large_tag": MODEL + field(1, b"free", high=1) + INPUT + DATA,
    "model_in_a_larger_tag": MODEL + field(1, b"free", high=1 << 20) + INPUT + DATA,
    "only_in_a_large_tag": field(1, b"double", high=1) + INPUT + DATA,
    "input_in_a_large_tag": MODEL + INPUT + DATA + b"\xaa\x80\x80\x80\x10" + tensor(name=b"q")[1:],
    "group": MODEL + GROUP + INPUT + DATA,
    "group_in_input": MODEL + tensor(more=GROUP) + DATA,
    "wire_7": MODEL + INPUT + DATA + b"\x4f\1",
    "field_0": MODEL + INPUT + DATA + b"\2\0",
    "cut_varint": MODEL + INPUT + DATA + b"\x80",
    "cut_length": MODEL + INPUT + DATA + b"\x3a\xff",
    "cut_field": (MODEL + DATA + INPUT)[:-1],
    "cut_input": MODEL + field(5, field(1, b"x") + b"\x12\x09FP32") + DATA,
    "long_length": MODEL + INPUT + b"\x3a" + varint(1 << 40) + ROW,
    "huge_length": MODEL + INPUT + b"\x3a" + NEGATIVE + ROW,
    "varint_of_11": MODEL + tensor(shape=field(3, b"\x81" + b"\x80" * 9 + b"\0" + b"\4")) + DATA,
    "cut_dim": MODEL + tensor(shape=field(3, b"\1\x84")) + DATA,
    "negative": MODEL + tensor(shape=field(3, b"\1" + NEGATIVE)) + DATA,
    "negative_unpacked": MODEL + tensor(shape=field(3, 1) + b"\x18" + NEGATIVE) + DATA,
    "dropped_bits": MODEL + tensor(shape=field(3, b"\1" + b"\x84" + b"\x80" * 8 + b"\2")) + DATA,
    "shape_in_two_inputs": MODEL + INPUT + tensor(name=b"x", shape=b"") + DATA,
    "shape_three": MODEL + tensor(shape=field(3, b"\1") + field(3, b"\4") + field(3, 1)) + DATA,
    "many_dimensions": MODEL + tensor(shape=field(3, b"\1" * 100_000)) + DATA,
    "many_inputs": MODEL + INPUT * 5000 + DATA,
    "empty_inputs": MODEL + field(5, b"") * 100_000 + DATA,
    "no_data": MODEL + INPUT,
    "data_twice": MODEL + INPUT + DATA + DATA,
    "both_kinds": MODEL + tensor(more=field(5, field(6, ROW))) + DATA,
    "other_contents": MODEL + tensor(more=field(5, field(5, b"\1\2\3\4"))),
    "fewer_contents": MODEL + tensor(more=field(5, field(6, ROW[:12]))),
    "id_no_text": MODEL + field(3, b"\xff\xfe") + INPUT + DATA,
    "parameters_broken": MODEL + tensor(more=field(4, b"\x0a\x09a")) + DATA,
    "contents_broken": MODEL + tensor(more=field(5, b"\x32\x09a")),
    "name_no_text": MODEL + tensor(name=b"\xff\xfe") + DATA,
    "model_no_text": field(1, b"double\xff") + INPUT + DATA,
    "model_zero": field(1, b"double\0") + INPUT + DATA,
    "model_path": field(1, b"../double") + INPUT + DATA,
    "model_long": field(1, b"d" * 300) + INPUT + DATA,
}
SHARED = b"shared_memory_region"
MEMORY = {
    "input": tensor(more=field(4, field(1, SHARED) + field(2, field(3, b"r")))),
    "turned": tensor(more=field(4, field(2, field(3, b"r" * 200)) + field(1, SHARED))),
    "second_key": tensor(more=field(4, field(1, b"any") + field(2, field(3, b"r")) + field(1, SHARED))),
    "size": tensor(more=field(4, field(1, b"shared_memory_byte_size") + field(2, field(2, 16)))),
    "output": INPUT + field(6, field(1, b"y") + field(2, field(1, SHARED) + field(2, field(3, b"r")))),
    "output_turned": INPUT + field(6, field(1, b"y") + field(2, field(2, field(3, b"r" * 200)) + field(1, SHARED))),
}


@pytest.mark.parametrize("case", RIGHT)
def test_a_message_that_is_right_in_an_unusual_way_is_answered(front, case):
    answer = front.call("ModelInfer", RIGHT[case])
    assert isinstance(answer, bytes), answer
    assert DOUBLED in answer


@pytest.mark.parametrize("case", WRONG)
def test_a_message_that_is_wrong_is_refused_as_the_callers_fault(front, case):
    answer = front.call("ModelInfer", WRONG[case])
    assert isinstance(answer, grpc.RpcError), answer
    assert answer.code() in (INVALID, grpc.StatusCode.NOT_FOUND), answer
    assert answer.details()


@pytest.mark.parametrize("case", MEMORY)
def test_shared_memory_is_refused_before_triton(setup, front, case):
    before = setup.asked()
    answer = front.call("ModelInfer", MODEL + MEMORY[case] + DATA)
    assert answer.code() == INVALID, answer
    assert "shared memory is not for callers" in answer.details()
    assert setup.asked() == before


@pytest.mark.parametrize("where", ["inputs", "outputs"])
@pytest.mark.parametrize("key", ["shared_memory_region", "shared_memory_offset", "shared_memory_byte_size"])
def test_shared_memory_is_refused_over_http_too(setup, front, where, key):
    request = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}],
        "outputs": [{"name": "y"}],
    }
    request[where][0]["parameters"] = {key: "r"}
    before = setup.asked()
    said = front.infer("double", request)
    assert (said.status, said.error) == (400, "shared memory is not for callers of the gateway")
    assert setup.asked() == before


def test_triton_looks_for_the_memory_and_sees_the_model_in_a_large_tag(direct):
    """Negative controls: without the gate, these messages do what they are made for."""
    region = field(2, field(3, b"r" * 200)) + field(1, SHARED)
    size = field(1, b"shared_memory_byte_size") + field(2, field(2, 16))
    answer = direct.call("ModelInfer", MODEL + tensor(more=field(4, region) + field(4, size)))
    assert "'rrr" in answer.details(), answer
    output = field(6, field(1, b"y") + field(2, region) + field(2, size))
    answer = direct.call("ModelInfer", MODEL + INPUT + output + DATA)
    assert "'rrr" in answer.details(), answer
    right = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
    memory = {"parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 16}}
    said = direct.infer("double", {"inputs": [right], "outputs": [{"name": "y", **memory}]})
    assert "'r'" in said.error, said
    answer = direct.call("ModelInfer", WRONG["model_in_a_large_tag"])
    assert isinstance(answer, bytes), answer
    assert field(1, b"free") in answer


def frame(message: bytes, flag: int = 0) -> bytes:
    return bytes([flag]) + struct.pack(">I", len(message)) + message


def ask(place, body: bytes, content_type: str = "application/grpc", path: str = "ModelInfer", method: str = "POST"):
    """A gRPC call over HTTP/1.1, which Envoy takes too: the frames are sent as they are."""
    return place.http(method, f"/inference.GRPCInferenceService/{path}", body, content_type=content_type, te="trailers")


FRAMES = {
    "two": frame(RIGHT["plain"]) * 2,
    "second_empty": frame(RIGHT["plain"]) + frame(b""),
    "another_model_second": frame(RIGHT["plain"]) + frame(field(1, b"free") + INPUT + DATA),
    "behind": frame(RIGHT["plain"]) + b"x",
    "cut": frame(RIGHT["plain"])[:-1],
    "head_cut": b"\0\0\0",
    "none": b"",
    "compressed": frame(RIGHT["plain"], 1),
    "flag_2": frame(RIGHT["plain"], 2),
    "trailers_frame": frame(RIGHT["plain"], 128),
    "text": b"{}",
}


@pytest.mark.parametrize("case", FRAMES)
def test_anything_but_one_whole_frame_is_refused_before_triton(setup, front, case):
    before = setup.asked()
    said = ask(front, FRAMES[case])
    assert said.headers["grpc-status"] in ("3", "12"), said
    assert setup.asked() == before


def test_content_types_of_grpc(setup, front):
    body = frame(RIGHT["plain"])
    before = setup.asked()
    for right in ("application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"):
        said = ask(front, body, right)
        assert DOUBLED in said.body, (right, said)
    assert setup.asked() == before + 3
    for wrong in (
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/grpc-web-text",
        "application/grpc+json",
        "application/grpcx",
        "Application/GRPC",
        "application/json",
        "application/grpc, application/json",
        "text/plain",
    ):
        said = ask(front, body, wrong)
        assert DOUBLED not in said.body, wrong
        assert said.headers.get("grpc-status", "5") in ("5", "12"), (wrong, said)
        assert said.status in (200, 404, 415), (wrong, said)
    for wrong in ("GET", "PUT", "HEAD"):
        assert DOUBLED not in ask(front, body, method=wrong).body
    assert setup.asked() == before + 3


def test_a_path_of_http_with_the_content_type_of_grpc_is_nothing(setup, front):
    before = setup.asked()
    said = front.http("POST", "/v2/models/double/infer", frame(RIGHT["plain"]), content_type="application/grpc")
    assert said.headers["grpc-status"] == "5"
    assert setup.asked() == before


@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata"])
def test_readiness_and_metadata_are_for_the_models_of_the_key(front, method):
    assert isinstance(front.call(method, field(1, b"double")), bytes)
    assert isinstance(front.call(method, field(1, b"double") + field(2, b"1")), bytes)
    assert front.call(method, field(1, b"free")).code() == grpc.StatusCode.PERMISSION_DENIED
    assert front.call(method, field(1, b"double") + field(1, b"free")).code() == INVALID
    assert front.call(method, field(1, b"double") + field(1, b"free", high=1)).code() == INVALID
    answer = front.call(method, field(1, b"double") + field(2, b"99"))
    assert answer == b"" or answer.code() in (grpc.StatusCode.NOT_FOUND, INVALID), answer


def test_mutated_messages_are_refused_or_right_and_never_a_failure(front):
    """Bytes changed, cut out, or there twice: what Triton answers was asked of a model of the key."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng, refused, answered = random.Random(seed), {}, []
    with front.channel() as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for number in range(400):
            body = bytearray(rng.choice(list(RIGHT.values())))
            for _ in range(rng.randint(1, 3)):
                at, kind = rng.randrange(len(body)), rng.randrange(3)
                if kind == 0:
                    body[at] = rng.randrange(256)
                elif kind == 1:
                    del body[at : at + rng.randint(1, 4)]
                else:
                    body[at:at] = body[at : at + rng.randint(1, 16)]
                body = body or bytearray(b"\0")
            try:
                answered.append(call(bytes(body), metadata=front.metadata(), timeout=5))
            except grpc.RpcError as error:
                refused.setdefault(error.code(), (number, error.details(), bytes(body)))
    assert set(refused) <= {INVALID, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED}, refused
    assert INVALID in refused
    assert all(answer.startswith(MODEL) for answer in answered)
    assert answered
