"""The requests that benchmarks send: plain values, so that a check and a load generator send the same bytes."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from modelport.errors import RemoteError, UnreachableError
from modelport.spec import dtype_of

HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A POST request.

    Attributes:
        path: Path of the URL, with its leading `/`.
        body: The body's bytes.
        headers: Headers beside Content-Length and Host.
    """

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def triton_request(model: str, inputs: Mapping[str, np.ndarray[Any, Any]], output: str) -> Request:
    """A binary inference request in Triton's protocol, which is KServe's v2 with its binary extension.

    Args:
        model: Model name; the answer comes from its newest version.
        inputs: Tensors with their batch axis; no strings.
        output: The one output that is wanted, as binary.
    """
    tensors = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": dtype_of(array).triton,
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in inputs.items()
    ]
    wanted = [{"name": output, "parameters": {"binary_data": True}}]
    header = json.dumps({"inputs": tensors, "outputs": wanted}).encode()
    return Request(
        path=f"/v2/models/{model}/infer",
        body=header + b"".join(array.tobytes() for array in inputs.values()),
        headers={"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(header))},
    )


def send(base_url: str, request: Request, *, timeout_s: float = 10.0) -> np.ndarray[Any, Any]:
    """Send the request once and read the answer as one flat float32 array.

    The answer is either nothing but the array's bytes, or Triton's: a JSON header, then the bytes.

    Args:
        base_url: Such as `http://127.0.0.1:8000`.
        request: What to send.
        timeout_s: Seconds for connecting, and for each read.

    Raises:
        UnreachableError: Nothing answers there.
        RemoteError: The answer is an error.
    """
    return np.frombuffer(post(base_url, request, timeout_s=timeout_s), dtype=np.float32)


def post(base_url: str, request: Request, *, timeout_s: float = 10.0) -> bytes:
    """Send the request once and give the answer's bytes, those of Triton's JSON header left out.

    Args:
        base_url: Such as `http://127.0.0.1:8000`.
        request: What to send.
        timeout_s: Seconds for connecting, and for each read.

    Raises:
        UnreachableError: Nothing answers there.
        RemoteError: The answer is an error.
    """
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=timeout_s)
    try:
        connection.request("POST", request.path, body=request.body, headers=dict(request.headers))
        answer = connection.getresponse()
        body = answer.read()
    except OSError as exc:
        raise UnreachableError(
            f"no answer from {base_url}{request.path}",
            why=str(exc),
            fix="look whether the server runs, and at its log",
            url=base_url,
        ) from exc
    finally:
        connection.close()
    if answer.status != 200:
        raise RemoteError(
            f"{base_url}{request.path} answered {answer.status}",
            why=body[:500].decode("utf-8", "replace"),
            fix="look at the server's log",
            status=answer.status,
        )
    return body[int(answer.headers.get(HEADER_LENGTH, 0)) :]
