"""Triton's HTTP protocol: requests are built, answers are read, wrong answers are found."""

from __future__ import annotations

import json
import time
from email.utils import formatdate

import numpy as np
import pytest

from modelport.client._calls import Infer, Metadata, Ready, Tensor
from modelport.client._connection import parse_target
from modelport.client._http import HttpAnswer, answer_from, request_for, retry_after_s
from modelport.client._tensors import decode
from modelport.errors import ModelNotFoundError, RemoteError, RequestError, UnavailableError
from modelport.spec import dtype_of

TARGET = parse_target("http://host:8000/base", token="key")
ASK = Metadata(model="m", version=None)
INFER = Infer(
    model="m",
    version=3,
    inputs=(Tensor(name="x", dtype=dtype_of("FP16"), shape=(1, 2), data=b"\0\x3c\0\x40"),),
    outputs=("y",),
    classes=2,
)


def answer(body: object, status: int = 200, **headers: str) -> HttpAnswer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpAnswer(status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}, body=raw)


def test_tensors_travel_in_binary_behind_a_json_header():
    request = request_for(TARGET, INFER)
    size = int(request.headers["inference-header-content-length"])
    assert (request.method, request.path) == ("POST", "/base/v2/models/m/versions/3/infer")
    assert request.headers["authorization"] == "Bearer key"
    assert request.body[size:] == b"\0\x3c\0\x40"
    head = json.loads(request.body[:size])
    assert head["inputs"] == [{"name": "x", "datatype": "FP16", "shape": [1, 2], "parameters": {"binary_data_size": 4}}]
    assert head["outputs"] == [{"name": "y", "parameters": {"binary_data": True, "classification": 2}}]


def test_paths_of_questions():
    assert request_for(TARGET, ASK).path == "/base/v2/models/m"
    assert request_for(TARGET, Ready(model=None, version=None)).path == "/base/v2/health/ready"
    assert request_for(TARGET, Ready(model="m", version=2)).path == "/base/v2/models/m/versions/2/ready"
    assert request_for(TARGET, Ready(model="m", version="stable")).path == "/base/v2/models/m/versions/stable/ready"


def test_metadata_is_read():
    body = {"name": "m", "inputs": [{"name": "x", "datatype": "BYTES", "shape": [-1, 1]}], "outputs": []}
    spec = answer_from(TARGET, ASK, answer(body))
    assert [(t.name, t.dtype.triton, t.dims) for t in spec.inputs] == [("x", "BYTES", (-1, 1))]


def test_binary_and_json_outputs_are_read():
    head = json.dumps(
        {
            "outputs": [
                {"name": "a", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}},
                {"name": "b", "datatype": "INT64", "shape": [2], "data": [1, 2]},
                {"name": "c", "datatype": "BYTES", "shape": [1, 1], "data": [["ä"]]},
                {"name": "d", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}},
            ]
        }
    ).encode()
    body = head + np.float32(1.5).tobytes() + b"\x01\0\0\0z"
    outputs = answer_from(TARGET, INFER, answer(body, inference_header_content_length=str(len(head))))
    assert {name: decode(tensor).tolist() for name, tensor in outputs.items()} == {
        "a": [1.5],
        "b": [1, 2],
        "c": [["ä"]],
        "d": ["z"],
    }


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"garbage", {}),
        (b"", {}),
        (b"[" * 100_000, {}),
        (b"\xff\xfe", {}),
        ([], {}),
        ({}, {}),
        ({"outputs": 3}, {}),
        ({"outputs": [{"name": "y"}]}, {}),
        ({"outputs": [{"name": "y", "datatype": "BF16", "shape": [1], "data": [1]}]}, {}),
        ({"outputs": [{"name": "y", "datatype": "FP32", "shape": ["a"], "data": [1]}]}, {}),
        ({"outputs": []}, {"inference_header_content_length": "x"}),
        ({"outputs": []}, {"inference_header_content_length": "-1"}),
        ({"outputs": []}, {"inference_header_content_length": "99999"}),
        (b'{"outputs": []}rest', {"inference_header_content_length": "15"}),
    ],
)
def test_an_answer_that_is_none_is_a_remote_error(body, headers):
    with pytest.raises(RemoteError, match="cannot be read"):
        answer_from(TARGET, INFER, answer(body, **headers))


def test_refusals_are_raised_and_readiness_is_answered():
    with pytest.raises(ModelNotFoundError):
        answer_from(TARGET, ASK, answer({"error": "Request for unknown model: 'm' is not found"}, 404))
    with pytest.raises(UnavailableError) as caught:
        answer_from(TARGET, ASK, answer(b"too many\n", 429, retry_after="7"))
    assert (caught.value.why, caught.value.retry_after_s, caught.value.retryable) == ("too many", 7.0, True)
    ready = Ready(model="m", version=None)
    assert [answer_from(TARGET, ready, answer(b"", s)) for s in (200, 400, 404, 503)] == [True, False, False, False]
    with pytest.raises(RequestError):
        answer_from(TARGET, ready, answer(b"", 401))


def test_retry_after_is_seconds_or_a_date():
    assert retry_after_s({"retry-after": " 3 "}) == 3
    assert retry_after_s({"retry-after": formatdate(time.time() + 60, usegmt=True)}) == pytest.approx(60, abs=2)
    assert retry_after_s({"retry-after": formatdate(time.time() - 60, usegmt=True)}) == 0
    for value in ("", "-1", "soon", "1e9", "Mon, 99 Foo 2020"):
        assert retry_after_s({"retry-after": value}) is None
    assert retry_after_s({}) is None
