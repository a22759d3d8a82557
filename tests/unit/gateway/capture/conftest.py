"""What the tests of capturing share: pairs as the gate sends them, and a repository with one model."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from modelport.gateway.capture.decoding import Pair
from modelport.gateway.capture.exchange import to_bytes
from modelport.gateway.capture.secret import Key
from modelport.spec import dtype_of

NOW = 1_760_000_000.0


def json_half(side: str, arrays: dict[str, Any], **more: Any) -> tuple[bytes, int]:
    """A request or answer all in JSON."""
    tensors = [
        {"name": n, "datatype": dtype_of(a).triton, "shape": list(a.shape), "data": a.tolist()}
        for n, a in arrays.items()
    ]
    return json.dumps({side: tensors, **more}).encode(), 0


def binary_half(side: str, arrays: dict[str, Any], **more: Any) -> tuple[bytes, int]:
    """The same with binary tensors behind the JSON."""
    data = {name: to_bytes(array) for name, array in arrays.items()}
    tensors = [
        {
            "name": n,
            "datatype": dtype_of(a).triton,
            "shape": list(a.shape),
            "parameters": {"binary_data_size": len(data[n])},
        }
        for n, a in arrays.items()
    ]
    head = json.dumps({side: tensors, **more}).encode()
    return head + b"".join(data.values()), len(head)


def grpc_half(side: str, arrays: dict[str, Any], **more: Any) -> tuple[bytes, int]:
    """The same as a gRPC frame with raw contents."""
    message = pb.ModelInferRequest() if side == "inputs" else pb.ModelInferResponse()
    tensors, raw = (
        (message.inputs, message.raw_input_contents)
        if side == "inputs"
        else (message.outputs, message.raw_output_contents)
    )
    for name, array in arrays.items():
        tensors.add(name=name, datatype=dtype_of(array).triton, shape=array.shape)
        raw.append(to_bytes(array))
    message.id = more.get("id", "")
    if side == "outputs":
        message.model_version = more.get("model_version", "")
    for word, value in more.get("parameters", {}).items():
        message.parameters[word].string_param = str(value)
    content = message.SerializeToString()
    return b"\0" + struct.pack(">I", len(content)) + content, 0


HALVES = {"json": json_half, "binary": binary_half, "grpc": grpc_half}


def pair_of(
    inputs: dict[str, Any], outputs: dict[str, Any] | None, /, *, form: str = "binary", version: str = "1", **more: Any
) -> Pair:
    """What the gate sends of a request and its answer; without outputs, the request failed."""
    request, request_json = HALVES[form]("inputs", inputs, **more)
    answer, answer_json = (b"", 0)
    if outputs is not None:
        answer, answer_json = HALVES[form]("outputs", outputs, model_version="3")
    headers = {
        "x-model": "net",
        "x-version": version,
        "x-tenant": "acme",
        "x-protocol": "grpc" if form == "grpc" else "http",
        "x-status": "200" if outputs is not None else "400",
        "x-request-length": str(len(request)),
        "x-request-json": str(request_json),
        "x-answer-json": str(answer_json),
    }
    return Pair(headers=headers, body=request + answer, at=NOW)


@pytest.fixture(scope="session")
def pair() -> Callable[..., Pair]:
    """`pair(inputs, outputs, form="json", version="", id="x")`."""
    return pair_of


@pytest.fixture
def key() -> Key:
    return Key(secret=bytes(range(32)))


@pytest.fixture
def now() -> float:
    return NOW


@pytest.fixture
def x() -> np.ndarray:
    return np.array([[0.5, -1.25, 3e8]], np.float32)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository whose state folder has a short path: sockets are made in it."""
    monkeypatch.delenv("MODELPORT_CAPTURE_KEY_FILE", raising=False)
    (tmp_path / "m").mkdir()
    return tmp_path / "m"


def plain_bytes(folder: Path) -> bytes:
    """All that stands in the files of a folder."""
    return b"\0".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
