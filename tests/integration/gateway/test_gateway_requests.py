"""C1 to C5 at the gateway, over HTTP (JSON and raw) and gRPC: each wrong request is refused by name, before Triton."""

from __future__ import annotations

import copy
import json
import random
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from modelport._process import wait_until

ROW = (1.0, 2.0, 3.0, 4.0)
HTTP_OF = {grpc.StatusCode.INVALID_ARGUMENT: 400, grpc.StatusCode.NOT_FOUND: 404}


@dataclass(frozen=True)
class In:
    """An input as it goes over the wire."""

    name: str = "x"
    datatype: str = "FP32"
    shape: tuple[int, ...] = (1, 4)
    data: tuple[float, ...] = ROW


X = In()
A = In("a", shape=(1, 2), data=(1, 2))
B = replace(A, name="b")
# Case: model, inputs, outputs, and what the refusal must say.
WRONG = {
    "missing": ("pair", [A], [], "input 'b' is missing"),
    "none": ("double", [], [], "input 'x' is missing"),
    "extra": ("double", [X, In("z")], [], "input 'z' is none of the model's: x"),
    "duplicate": ("double", [X, X], [], "input 'x' is given twice"),
    "output": ("double", [X], ["nope"], "'nope'"),
    "datatype": ("double", [replace(X, datatype="FP64", data=ROW * 2)], [], "input 'x' is FP32, not FP64"),
    "no_datatype": ("double", [replace(X, datatype="")], [], "input 'x' is FP32, not "),
    "rank": ("double", [replace(X, shape=(4,))], [], "input 'x' has the shape [1 to 8,4], not [4]"),
    "scalar": ("double", [replace(X, shape=(), data=(1,))], [], "[1 to 8,4], not []"),
    "dimension": ("double", [replace(X, shape=(1, 5), data=(*ROW, 5))], [], "[1 to 8,4], not [1,5]"),
    "batch": ("double", [replace(X, shape=(9, 4), data=ROW * 9)], [], "[1 to 8,4], not [9,4]"),
    "python": ("careful", [replace(X, shape=(1, 2, 2))], [], "[1 to 8,4], not [1,2,2]"),
    "rows": ("pair", [A, replace(B, shape=(2, 2), data=ROW)], [], "batch size does not"),
    "short": ("double", [replace(X, data=ROW[:3])], [], ""),
    "long": ("double", [replace(X, data=(*ROW, 5))], [], ""),
    "empty": ("double", [replace(X, data=())], [], ""),
    "zero": ("double", [replace(X, shape=(0, 4), data=())], [], "[1 to 8,4], not [0,4]"),
    "zero_varying": ("pair", [replace(A, shape=(1, 0), data=()), B], [], "[1 to 8,any], not [1,0]"),
    "negative": ("double", [replace(X, shape=(-1, 4))], [], "input 'x' has the shape [1 to 8,4], not ["),
    "negative_varying": ("pair", [replace(A, shape=(1, -2)), B], [], "input 'a' has the shape [1 to 8,any], not ["),
    "two_negatives": ("double", [replace(X, shape=(-1, -4))], [], "input 'x'"),
    "2^31": ("pair", [replace(A, shape=(1, 1 << 31)), B], [], "[1 to 8,any], not [1,2147483648]"),
    "2^31-1": ("pair", [replace(A, shape=(1, (1 << 31) - 1)), B], [], "has more elements than the request has bytes"),
    "2^60": ("pair", [replace(A, shape=(1, 1 << 60)), B], [], "[1 to 8,any], not [1,out of range]"),
    "2^63-1": ("pair", [replace(A, shape=(1, (1 << 63) - 1)), B], [], "[1 to 8,any], not [1,out of range]"),
    "overflow": ("free", [replace(X, shape=(1 << 30, 1 << 30))], [], "more elements than the request has bytes"),
    "overflow_to_4": ("free", [replace(X, shape=((1 << 31) - 1, 1 << 31))], [], "[any,any], not ["),
    "many_dimensions": ("free", [replace(X, shape=(1,) * 1000)], [], ""),
}


def as_json(inputs: list[In], outputs: list[str]) -> bytes:
    listed = [
        {"name": one.name, "datatype": one.datatype, "shape": one.shape, "data": list(one.data)} for one in inputs
    ]
    return json.dumps({"inputs": listed, "outputs": [{"name": name} for name in outputs]}).encode()


def as_binary(inputs: list[In], outputs: list[str]) -> tuple[bytes, int]:
    raw = [struct.pack(f"<{len(one.data)}f", *one.data) for one in inputs]
    listed = [
        {"name": one.name, "datatype": one.datatype, "shape": one.shape, "parameters": {"binary_data_size": len(data)}}
        for one, data in zip(inputs, raw, strict=True)
    ]
    head = json.dumps({"inputs": listed, "outputs": [{"name": name} for name in outputs]}).encode()
    return head + b"".join(raw), len(head)


def as_message(model: str, inputs: list[In], outputs: list[str], *, typed: bool) -> Any:
    message = service_pb2.ModelInferRequest(model_name=model)
    for one in inputs:
        tensor = message.inputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
        if typed:
            tensor.contents.fp32_contents.extend(one.data)
        else:
            message.raw_input_contents.append(struct.pack(f"<{len(one.data)}f", *one.data))
    for name in outputs:
        message.outputs.add(name=name)
    return message


def ask(place: Any, form: str, model: str, inputs: list[In], outputs: list[str]) -> tuple[int, str]:
    """The status as in HTTP, and the words of the refusal."""
    if form == "json":
        said = place.infer(model, as_json(inputs, outputs))
    elif form == "binary":
        body, size = as_binary(inputs, outputs)
        said = place.infer(model, body, inference_header_content_length=size)
    else:
        answer = place.call("ModelInfer", as_message(model, inputs, outputs, typed=form == "typed"))
        if isinstance(answer, grpc.RpcError):
            return HTTP_OF.get(answer.code(), 599), answer.details()
        return 200, ""
    return said.status, "" if said.status == 200 else said.error


@pytest.mark.parametrize("form", ["json", "binary", "grpc", "typed"])
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_gets_400_and_is_told_what_was_expected(everything, form, case):
    model, inputs, outputs, named = WRONG[case]
    status, words = ask(everything, form, model, inputs, outputs)
    assert status == 400, words
    assert named in words
    assert words


@pytest.mark.parametrize("form", ["json", "binary", "grpc", "typed"])
def test_a_right_request_is_answered_in_each_form(everything, form):
    """Negative control: none of the refusals above comes from how these tests ask."""
    assert ask(everything, form, "double", [X], ["y"]) == (200, "")
    assert ask(everything, form, "double", [replace(X, shape=(8, 4), data=ROW * 8)], []) == (200, "")
    assert ask(everything, form, "pair", [B, A], []) == (200, "")
    assert ask(everything, form, "careful", [X], []) == (200, "")
    assert ask(everything, form, "free", [X], []) == (200, "")


@pytest.mark.parametrize("form", ["json", "grpc"])
@pytest.mark.parametrize("case", ["extra", "datatype", "dimension", "zero", "negative"])
def test_what_the_gate_refuses_reaches_no_server(setup, everything, form, case):
    model, inputs, outputs, _ = WRONG[case]
    before = setup.asked()
    ask(everything, form, model, inputs, outputs)
    assert setup.asked() == before
    ask(everything, form, "double", [X], [])
    assert setup.asked() == before + 1, "what is counted is not what reaches the server"


def test_a_shape_larger_than_the_request_makes_nobody_take_memory(setup, everything, direct):
    inputs = [replace(A, shape=(1, 1 << 25)), replace(B, shape=(1, 1 << 25))]
    with setup.peak() as grown:
        assert ask(everything, "json", "pair", inputs, [])[0] == 400
    assert grown() < 16 << 20
    with setup.peak() as grown:  # negative control: Triton takes it before it looks
        assert ask(direct, "json", "pair", inputs, [])[0] == 500
    assert grown() > 64 << 20


def mutations(seed: int, count: int) -> list[bytes]:
    """A right body with some of its bytes changed, cut out, or there twice."""
    rng, right = random.Random(seed), as_json([X], ["y"])
    found = []
    for _ in range(count):
        body = bytearray(right)
        for _ in range(rng.randint(1, 4)):
            at, kind = rng.randrange(len(body)), rng.randrange(4)
            if kind == 0:
                body[at] = rng.randrange(256)
            elif kind == 1:
                del body[at : at + rng.randint(1, 8)]
            elif kind == 2:
                body[at:at] = body[at : at + rng.randint(1, 20)]
            else:
                body[at:at] = rng.choice([b'"', b"[", b"]", b"{", b"}", b",", b"\\", b"\0", b"-", b"1e400", b"null"])
        found.append(bytes(body))
    return found


def test_mutated_bodies_are_refused_or_right_and_never_a_failure(everything):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    statuses = {}
    for body in mutations(seed, 200):
        said = everything.infer("double", body)
        statuses.setdefault(said.status, []).append(body)
    assert set(statuses) <= {200, 400}, {s: b[0] for s, b in statuses.items()}
    assert len(statuses[400]) > 100, "hardly anything was changed"
    for body in statuses.get(200, []):
        assert json.loads(body)["inputs"][0]["name"] == "x"


FULL = {
    "id": "a",
    "parameters": {"own": 1, "binary_data_output": False},
    "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"own": "b"}, "data": [1.0, 2.0, 3.0, 4.0]}
    ],
    "outputs": [{"name": "y", "parameters": {"classification": 2, "binary_data": False}}],
}
KINDS = (None, True, 0, -1, 1.5, 1 << 32, 1 << 64, "text", [], [1], {}, {"a": 1}, [[]], [None])


def swapped(value: Any) -> Iterator[Any]:
    """Each value in it, and each part of it, in turn replaced by one of another kind."""
    yield from KINDS
    if isinstance(value, (dict, list)):
        for key, part in list(value.items() if isinstance(value, dict) else enumerate(value)):
            for other in swapped(part):
                changed = copy.copy(value)
                changed[key] = other
                yield changed


def test_a_value_of_another_kind_anywhere_is_no_failure_of_the_server(everything, direct):
    assert everything.infer("double", FULL).status == 200
    bodies = [json.dumps(one).encode() for one in swapped(FULL)]
    statuses = {}
    for body in bodies:
        statuses.setdefault(everything.infer("double", body).status, []).append(body)
    assert set(statuses) <= {200, 400}, {status: found[:5] for status, found in statuses.items() if status > 400}
    assert len(statuses[400]) > len(bodies) // 3
    assert direct.infer("double", json.dumps(FULL | {"parameters": 5}).encode()).status == 500, "Triton looks at it now"


BAD_TEXT = [
    *(b"\x80", b"\xbf", b"\xc3", b"\xc3(", b"\xc0\x80", b"\xc1\xbf", b"\xe2\x82", b"\xe0\x9f\xbf", b"\xed\xa0\x80"),
    *(b"\xf0\x8f\xbf\xbf", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xff", b"a\xe9b"),
]


@pytest.mark.parametrize("where", ["name", "data"])
def test_text_that_is_not_utf8_gets_400(everything, direct, where):
    request = b'{"%s": "b", "inputs": [{"name": "x", "datatype": "BYTES", "shape": [1, 1], "data": ["%s"]}]}'
    for text in BAD_TEXT:
        body = request % ((text, b"a") if where == "name" else (b"c", text))
        said = everything.infer("echo", body)
        assert (said.status, said.error) == (400, "the JSON is not UTF-8"), text
    for text in ("\u00e9", "\u0800", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff"):
        body = request % ((text.encode(), b"a") if where == "name" else (b"c", text.encode()))
        assert everything.infer("echo", body).status == 200, text
    assert direct.infer("double", as_json([X], []).replace(b'"outputs"', b'"\xff"')).status == 200, "Triton looks too"


JSON = as_json([X], []).decode()
NOT_JSON = {
    "empty": b"",
    "blank": b"  ",
    "word": b"null",
    "list": f"[{JSON}]".encode(),
    "open": JSON[:-1].encode(),
    "closed_twice": (JSON + "}").encode(),
    "two": (JSON + JSON).encode(),
    "behind_zero": (JSON + "\0" + JSON).encode(),
    "zero": JSON.replace("1.0", "\0").encode(),
    "bad_utf8": JSON.replace('"x"', '"\xff\xfe"').encode("latin-1"),
    "nan": JSON.replace("1.0", "NaN").encode(),
    "1e400": JSON.replace("1.0", "1e400").encode(),
    "infinity": JSON.replace("1.0", "-Infinity").encode(),
    "bom": b"\xef\xbb\xbf" + JSON.encode(),
    "utf16": JSON.encode("utf-16"),
    "utf16le": JSON.encode("utf-16-le"),
    "utf16be": JSON.encode("utf-16-be"),
    "utf32": JSON.encode("utf-32-le"),
    "comment": JSON.replace("[1.0", "/* [ */ [1.0").encode(),
    "single_quotes": JSON.replace('"', "'").encode(),
    "string_open": JSON.replace('"x"', '"x').encode(),
    "ends_in_escape": b'{"inputs":"\\',
    "shape_object": JSON.replace("[1, 4]", '{"a": 1}').encode(),
    "shape_text": JSON.replace("[1, 4]", '"[1,4]"').encode(),
    "shape_texts": JSON.replace("[1, 4]", '["1","4"]').encode(),
    "shape_fraction": JSON.replace("[1, 4]", "[1.0, 4.0]").encode(),
    "shape_exponent": JSON.replace("[1, 4]", "[1, 4e0]").encode(),
    "shape_nested": JSON.replace("[1, 4]", "[[1, 4]]").encode(),
    "inputs_object": JSON.replace('"inputs": [', '"inputs": {"a": ').replace('}], "outputs"', '}}, "outputs"').encode(),
    "inputs_nested": JSON.replace('"inputs": [', '"inputs": [[').replace('}], "outputs"', '}]], "outputs"').encode(),
    "inputs_twice": JSON.replace("{", '{"inputs": [], ', 1).encode(),
    "name_twice": JSON.replace('"name": "x"', '"name": "x", "name": "z"').encode(),
    "shape_twice": JSON.replace('"shape": [1, 4]', '"shape": [1, 4], "shape": [1, 5]').encode(),
    "datatype_twice": JSON.replace('"datatype"', '"datatype": "FP64", "datatype"').encode(),
    "escaped_inputs": JSON.replace('"inputs"', '"\\u0069nputs"').encode(),
    "escaped_shape": JSON.replace('"shape"', '"shape": [1, 4], "\\u0073hape"').encode(),
    "escaped_parameter": JSON.replace('"data"', '"parameters": {"shared_memory_r\\u0065gion": "a"}, "data"').encode(),
    "name_number": JSON.replace('"x"', "5").encode(),
    "text_data": JSON.replace("1.0", '"1.0"').encode(),
}


@pytest.mark.parametrize("case", NOT_JSON)
def test_what_is_no_right_json_gets_400(everything, case):
    said = everything.infer("double", NOT_JSON[case])
    assert said.status == 400, said
    assert said.error
    assert said.code == "bad_request"


def test_strings_of_a_model_are_not_looked_into(everything):
    """Negative control: braces, quotes, escapes and words that are refused elsewhere are data here."""
    for text in ('}]{["\\ \x01\x02 shared_memory_region', "\u00e9\U0001f600", "\\", "[" * 300, "\0"):
        request = {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1, 1], "data": [text]}]}
        said = everything.infer("echo", request)
        assert said.status == 200, said
        assert said.json["outputs"][0]["data"] == [text]


def nested(depth: int) -> bytes:
    """A right request whose JSON is nested so deep: its data is, which Triton takes as if it were flat."""
    lists = depth - 3
    text = as_json([In(shape=(1, 1), data=(7,), name="a"), In("b", shape=(1, 1), data=(1,))], []).decode()
    return text.replace("[7]", "[" * lists + "7" + "]" * lists).encode()


def test_json_is_taken_100_deep_and_refused_beyond_at_once(everything, direct):
    assert [everything.infer("pair", nested(depth)).status for depth in (50, 100, 101)] == [200, 200, 400]
    assert "nested deeper than 100" in everything.infer("pair", nested(101)).error
    assert direct.infer("pair", nested(101)).status == 200, "the limit is not the gateway's"


def test_json_100000_deep_is_refused_within_a_second(setup, everything):
    import time

    started = time.monotonic()
    for body in (nested(100_000), b"[" * 100_000, b'{"inputs":' + b'{"a":' * 100_000, b'{"id":' + b"[" * 100_000):
        assert everything.infer("pair", body).status == 400
    assert time.monotonic() - started < 1.0
    assert np.isfinite(setup.server.pid)


@pytest.mark.parametrize("form", ["json", "binary", "grpc"])
def test_the_access_log_says_how_many_rows_a_request_had(setup, everything, form):
    """Of a model without a batch axis each request is one inference."""
    log = setup.gateway.folder / "access.log"
    before = settled(log)
    for model, shape in (("double", (3, 4)), ("free", (3, 4))):
        assert ask(everything, form, model, [replace(X, shape=shape, data=ROW * 3)], [])[0] == 200
    wait_until(lambda: len(answered(log)) >= before + 2, timeout_s=5)
    assert [(line["model"], line["inferences"]) for line in answered(log)[before:]] == [("double", "3"), ("free", "1")]


def test_nothing_that_a_caller_writes_gets_into_the_access_log(setup, everything, front):
    """So none of it has to be escaped there, and no caller writes lines for somebody else."""
    log = setup.gateway.folder / "access.log"
    settled(log)
    before = len(log.read_text().splitlines())
    forged = 'x","tenant":"forged","passed":"1'
    headers = dict.fromkeys(
        ("x_request_id", "traceparent", "user_agent", "x_forwarded_for", "triton_request_id"), forged
    )
    for place in (everything, front):
        for model in ("double", quote(forged), f"double/versions/{quote(forged)}", "refused%2Fby-envoy"):
            place.http("POST", f"/v2/models/{model}/infer", b"{}", **headers)
    assert wait_until(lambda: len(log.read_text().splitlines()) >= before + 8, timeout_s=5)
    text = log.read_text()
    assert "forged" not in text and [line for line in text.splitlines() if not json.loads(line)] == []


@pytest.mark.parametrize("digits", ["2147483648", "9" * 20, "7" * 5000], ids=["2^31", "20", "5000"])
def test_a_number_that_no_version_has_is_refused_and_not_logged(setup, everything, digits):
    log, before = setup.gateway.folder / "access.log", setup.asked()
    settled(log)
    lines = len(log.read_text().splitlines())
    said = everything.http("POST", f"/v2/models/double/versions/{digits}/infer", as_json([X], []))
    assert (said.status, said.error) == (404, f"the model has no version '{digits[:63]}'")
    message = as_message("double", [X], [], typed=False)
    message.model_version = digits
    answer = everything.call("ModelInfer", message)
    refused = grpc.StatusCode.NOT_FOUND if len(digits) < 256 else grpc.StatusCode.INVALID_ARGUMENT
    assert answer.code() == refused, answer
    assert setup.asked() == before
    assert wait_until(lambda: len(log.read_text().splitlines()) == lines + 2, timeout_s=5)
    assert digits not in log.read_text()


def settled(log: Path) -> int:
    """How many lines there are, once those of the tests before have been written (Envoy writes each 100 ms)."""
    time.sleep(0.25)
    return len(answered(log))


def answered(log: Path) -> list[Any]:
    return [line for line in map(json.loads, log.read_text().splitlines()) if line["status"] == 200]


def test_what_was_right_once_is_compared_with_each_body_anew(everything):
    """What is kept of a request's JSON is the shapes, which the next body of the same JSON may be too short for."""
    right, size = as_binary([replace(X, shape=(8, 4), data=ROW * 8)], [])
    for _ in range(2):
        assert everything.infer("double", right, inference_header_content_length=size).status == 200
    short = everything.infer("double", right[:size], inference_header_content_length=size)
    assert short.status == 400, short.body
    other = everything.infer("pair", right, inference_header_content_length=size)
    assert (other.status, "input 'x' is none of the model's" in other.error) == (400, True)
