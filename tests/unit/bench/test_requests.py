"""The bytes of a request and the reading of its answer follow Triton's protocol."""

from __future__ import annotations

import json

import numpy as np
import pytest

from modelport.bench.requests import Request, send, triton_request
from modelport.errors import RemoteError, UnreachableError


def test_a_triton_request_is_a_json_header_and_the_tensors_bytes():
    image = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    request = triton_request("digits", {"image": image}, "probabilities")
    length = int(request.headers["Inference-Header-Content-Length"])
    header = json.loads(request.body[:length])
    assert request.path == "/v2/models/digits/infer"
    assert header["inputs"] == [
        {"name": "image", "shape": [1, 2, 3], "datatype": "FP32", "parameters": {"binary_data_size": 24}}
    ]
    assert request.body[length:] == image.tobytes()


@pytest.mark.parametrize("path", ["/echo", "/triton"])
def test_the_answer_is_read_with_and_without_a_header(echo, path):
    values = np.array([0.5, 1.5], dtype=np.float32)
    np.testing.assert_array_equal(send(echo.url, Request(path=path, body=values.tobytes())), values)


def test_an_error_answer_is_an_error(echo):
    with pytest.raises(RemoteError, match="answered 500"):
        send(echo.url, Request(path="/fail", body=b"1234"))


def test_nothing_there_is_an_error(free_port):
    with pytest.raises(UnreachableError):
        send(f"http://127.0.0.1:{free_port()}", Request(path="/echo", body=b""))
