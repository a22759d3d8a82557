"""What the gate sends becomes named arrays, or an error that tells nothing of it."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.grpc import service_pb2 as pb

from modelport.gateway.capture.decoding import Pair, decode
from modelport.gateway.capture.exchange import pack, unpack

SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3)
NUMBERS = st.sampled_from(["float32", "float64", "int8", "uint16", "int64", "uint64", "bool"]).flatmap(
    lambda name: hnp.arrays(name, SHAPES, elements={"allow_nan": False} if name.startswith("float") else None)
)
TEXTS = hnp.arrays(object, SHAPES, elements=st.text(st.characters(exclude_categories=("Cs",)), max_size=8))
ARRAYS = st.dictionaries(st.sampled_from(["x", "text", "mask_1"]), NUMBERS | TEXTS, min_size=1)


def same(a, b):
    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and np.array_equal(a[n], b[n]) for n in a)


@settings(max_examples=40)
@given(ARRAYS, ARRAYS, st.sampled_from(["json", "binary", "grpc"]))
def test_every_form_gives_the_arrays_that_were_sent_and_survives_being_kept(pair, inputs, outputs, form):
    found = decode(pair(inputs, outputs, form=form, id="r-1"))
    assert same(found.inputs, inputs) and same(found.outputs, outputs)
    assert (found.model, found.version, found.status, found.request_id) == ("net", 1, 200, "r-1")
    again = unpack(pack(found))
    assert same(again.inputs, inputs) and same(again.outputs, outputs)
    assert (again.marks, again.at, again.protocol) == (found.marks, found.at, found.protocol)


@pytest.mark.parametrize("form", ["json", "binary", "grpc"])
def test_a_version_that_the_gate_does_not_know_is_the_one_that_answered(pair, x, form):
    assert decode(pair({"x": x}, {"y": x}, form=form, version="")).version == 3


@pytest.mark.parametrize("form", ["json", "binary", "grpc"])
def test_a_failed_request_has_no_outputs(pair, x, form):
    found = decode(pair({"x": x}, None, form=form))
    assert found.status == 400 and found.outputs == {} and np.array_equal(found.inputs["x"], x)


def test_the_words_of_a_refused_answer_are_not_taken(pair, x):
    asked = pair({"x": x}, None)
    found = decode(Pair(headers=asked.headers, body=asked.body + b'{"error":"secret"}', at=asked.at))
    assert found.outputs == {} and "secret" not in repr(found)


def test_typed_contents_of_grpc_are_read(pair):
    message = pb.ModelInferRequest()
    for name, datatype, field, values in (
        ("a", "INT8", "int_contents", [-1, 2]),
        ("b", "BYTES", "bytes_contents", [b"x", b"\xff"]),
        ("c", "FP32", "fp32_contents", [0.5, 2.0]),
    ):
        tensor = message.inputs.add(name=name, datatype=datatype, shape=[2])
        getattr(tensor.contents, field).extend(values)
    content = message.SerializeToString()
    frame = b"\0" + len(content).to_bytes(4, "big") + content
    headers = {"x-model": "net", "x-protocol": "grpc", "x-status": "200", "x-request-length": str(len(frame))}
    found = decode(Pair(headers=headers, body=frame, at=1.0)).inputs
    assert found["a"].tolist() == [-1, 2] and found["b"].tolist() == ["x", b"\xff"] and found["c"].dtype == np.float32


def test_outputs_asked_for_as_classes_are_left_out(pair, x):
    wanted = [{"name": "y", "parameters": {"classification": 1}}, {"name": "z"}]
    found = decode(pair({"x": x}, {"y": x, "z": x}, form="json", outputs=wanted))
    assert list(found.outputs) == ["z"]


WRONG = {
    "no JSON": (b"{secret", {}),
    "no inputs": (b'{"secret":1}', {}),
    "a length beyond the body": (b"{}", {"x-request-length": "99"}),
    "JSON beyond the request": (b"{}", {"x-request-json": "99"}),
    "a bad length": (b"{}", {"x-request-length": "secret"}),
    "another model's name": (b'{"inputs":[]}', {"x-model": "../secret"}),
    "a compressed message": (b"\1\0\0\0\0", {"x-protocol": "grpc"}),
    "a frame cut off": (b"\0\0\0\0\x09abc", {"x-protocol": "grpc"}),
    "no message": (b"\0\0\0\0\x03\xff\xff\xff", {"x-protocol": "grpc"}),
}
TENSOR = {"name": "x", "datatype": "INT8", "shape": [1], "data": [1]}
for word, change in {
    "too few values": {"shape": [2]},
    "a value beyond its type": {"data": [999]},
    "a text for a number": {"data": ["secret"]},
    "half a number": {"data": [0.5]},
    "a type that is none": {"datatype": "SECRET"},
    "a negative dimension": {"shape": [-1]},
    "a ragged list": {"shape": [2, 2], "data": [[1, 2], [3]]},
    "a negative size": {"parameters": {"binary_data_size": -1}},
    "a size beyond the body": {"parameters": {"binary_data_size": 9}},
    "a number for a text": {"datatype": "BYTES"},
}.items():
    WRONG[word] = (json.dumps({"inputs": [TENSOR | change]}).encode(), {})
WRONG["one name twice"] = (json.dumps({"inputs": [TENSOR, TENSOR]}).encode(), {})


@pytest.mark.parametrize("word", WRONG)
def test_what_cannot_be_read_in_full_is_refused_without_a_word_of_it(word):
    body, changed = WRONG[word]
    headers = {"x-model": "net", "x-status": "200", "x-request-length": str(len(body)), **changed}
    with pytest.raises(ValueError) as caught:
        decode(Pair(headers=headers, body=body, at=1.0))
    assert "secret" not in str(caught.value).lower() and caught.value.__cause__ is None


@settings(max_examples=60)
@given(st.sampled_from(["json", "binary", "grpc"]), st.randoms(use_true_random=False), st.integers(1, 4))
def test_a_mutated_pair_is_read_or_refused(pair, form, random, count):
    """Nothing but a ValueError comes out, whatever the bytes are."""
    x = np.array([[1.0, 2.0]], np.float32)
    asked = pair({"x": x, "t": np.array(["a", "b"], object)}, {"y": x}, form=form)
    body = bytearray(asked.body)
    for _ in range(count):
        body[random.randrange(len(body))] = random.randrange(256)
    with contextlib.suppress(ValueError):
        decode(Pair(headers=asked.headers, body=bytes(body), at=asked.at))
