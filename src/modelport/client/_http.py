"""Triton's HTTP protocol: a call as a request, an answer as a value. Pure functions.

Tensors always travel in binary behind a JSON header, which is many times cheaper than JSON lists and the only way for
FP16. Sources: the protocol https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol and its
extensions in https://github.com/triton-inference-server/server/tree/main/docs/protocol (binary tensor data,
classification).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import numpy as np

from modelport.client import _errors
from modelport.client._calls import Answer, Call, Infer, Metadata, RawSpec, Ready, Tensor
from modelport.client._connection import Target
from modelport.client._tensors import encode
from modelport.errors import InvalidNameError, UsageError
from modelport.spec import TensorSpec, dtype_of

HEADER_LENGTH = "inference-header-content-length"


@dataclass(frozen=True, kw_only=True)
class HttpRequest:
    """A request: `path` begins with a slash, header names are lower-case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, kw_only=True)
class HttpAnswer:
    """An answer: header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def request_for(target: Target, call: Call) -> HttpRequest:
    """The request for a call."""
    headers = {"host": target.authority, "accept-encoding": "identity", **target.headers()}
    if isinstance(call, Infer):
        head = json.dumps(_infer_header(call)).encode()
        headers |= {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
        body = b"".join((head, *(tensor.data for tensor in call.inputs)))
        return HttpRequest(method="POST", path=f"{_model_path(target, call)}/infer", headers=headers, body=body)
    if isinstance(call, Metadata):
        return HttpRequest(method="GET", path=_model_path(target, call), headers=headers)
    path = f"{target.path}/v2/health/ready" if call.model is None else f"{_model_path(target, call)}/ready"
    return HttpRequest(method="GET", path=path, headers=headers)


def answer_from(target: Target, call: Call, answer: HttpAnswer) -> Answer:
    """What the server's answer to a call says.

    Raises:
        ModelportError: The server refused or failed, or its answer cannot be read.
    """
    if isinstance(call, Ready) and answer.status in (200, 400, 404, 503):
        return answer.status == 200
    if answer.status != 200:
        raise _errors.refused(target, call, answer.status, _message(answer), retry_after_s(answer.headers))
    try:
        if isinstance(call, Metadata):
            return _spec(json.loads(answer.body))
        return _outputs(answer)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidNameError, UsageError) as error:
        raise _errors.unreadable(target, call, error) from error


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header, which may be a number or a date; None without a readable one."""
    value = headers.get("retry-after", "").strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _model_path(target: Target, call: Infer | Metadata | Ready) -> str:
    """The name needs no quoting: `check_model_name` lets nothing through that would."""
    version = "" if call.version is None else f"/versions/{call.version}"
    return f"{target.path}/v2/models/{call.model}{version}"


def _infer_header(call: Infer) -> dict[str, Any]:
    inputs = [
        {
            "name": tensor.name,
            "datatype": tensor.dtype.triton,
            "shape": tensor.shape,
            "parameters": {"binary_data_size": len(tensor.data)},
        }
        for tensor in call.inputs
    ]
    if not call.outputs:
        return {"inputs": inputs, "parameters": {"binary_data_output": True}}
    parameters = {"binary_data": True} | ({"classification": call.classes} if call.classes else {})
    return {"inputs": inputs, "outputs": [{"name": name, "parameters": parameters} for name in call.outputs]}


def _spec(body: dict[str, Any]) -> RawSpec:
    def tensors(key: str) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name=t["name"], dtype=dtype_of(str(t["datatype"])), dims=tuple(int(d) for d in t["shape"]))
            for t in body.get(key, ())
        )

    return RawSpec(inputs=tensors("inputs"), outputs=tensors("outputs"))


def _outputs(answer: HttpAnswer) -> dict[str, Tensor]:
    size = int(answer.headers.get(HEADER_LENGTH, len(answer.body)))
    if not 0 <= size <= len(answer.body):
        raise ValueError(f"{HEADER_LENGTH} is {size}, the body has {len(answer.body)} bytes")
    outputs = {}
    for output in json.loads(answer.body[:size])["outputs"]:
        dtype, shape = dtype_of(str(output["datatype"])), tuple(int(d) for d in output["shape"])
        length = output.get("parameters", {}).get("binary_data_size")
        if length is None:
            data = encode(dtype, _from_json(dtype.triton, dtype.np, output["data"]))
        else:
            data = answer.body[size : size + length]
            size += length
        outputs[output["name"]] = Tensor(name=output["name"], dtype=dtype, shape=shape, data=data)
    if size != len(answer.body):
        raise ValueError(f"its tensors take {size} bytes, the body has {len(answer.body)}")
    return outputs


def _from_json(triton: str, dtype: np.dtype[Any], values: Any) -> np.ndarray[Any, np.dtype[Any]]:
    array = np.asarray(values, dtype=dtype)
    if triton == "BYTES":
        array = np.array([str(v).encode() for v in array.reshape(-1)] or [], dtype=object)
    return array


def _message(answer: HttpAnswer) -> str:
    """The error text of Triton (JSON) or of a gateway (plain)."""
    try:
        return str(json.loads(answer.body)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return answer.body[:2000].decode("utf-8", "replace") or "the answer gives no reason"
