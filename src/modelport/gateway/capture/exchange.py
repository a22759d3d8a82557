"""`Exchange`: a request with its answer, as named arrays; and the bytes in which it is kept.

The bytes are a length, a JSON description, and each tensor in Triton's binary form. Nothing in them is ever executed.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelport.convert.types import Array
from modelport.errors import UsageError
from modelport.spec import DType, dtype_of

REDACTED, MASKED = "redacted", "masked"
_LENGTH = struct.Struct("<I")
Parameters = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A request and what was answered.

    Attributes:
        model: Model name.
        version: The version that answered; None where nobody told.
        at: When, in seconds since 1970.
        protocol: `http` or `grpc`.
        status: HTTP status of the answer.
        inputs: Input name to its array, batch axis included; elements of BYTES are `str`, or `bytes` that are no UTF-8.
        outputs: The same of the answer; empty where the request failed.
        marks: `input NAME` or `output NAME` to `redacted` (all values are replaced) or `masked` (parts of texts are).
        request_id: As the caller gave it; empty unless it was asked for. So are the next two.
        parameters: Of the request.
        tenant: Whose request it was.
    """

    model: str
    version: int | None
    at: float
    protocol: str
    status: int
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    marks: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""
    parameters: Parameters = field(default_factory=dict)
    tenant: str = ""


def pack(exchange: Exchange) -> bytes:
    """The bytes in which an exchange is kept."""
    content: dict[str, Any] = {
        name: getattr(exchange, name)
        for name in ("model", "version", "at", "protocol", "status", "request_id", "tenant")
    }
    content |= {"marks": dict(exchange.marks), "parameters": dict(exchange.parameters)}
    parts = []
    for side in ("inputs", "outputs"):
        content[side] = []
        for name, array in getattr(exchange, side).items():
            data = to_bytes(array)
            parts.append(data)
            content[side].append([name, dtype_of(array).triton, array.shape, len(data)])
    head = json.dumps(content).encode()
    return b"".join((_LENGTH.pack(len(head)), head, *parts))


def unpack(content: bytes) -> Exchange:
    """The exchange in these bytes.

    Raises:
        ValueError: They are no exchange.
    """
    try:
        (size,) = _LENGTH.unpack_from(content)
        at = _LENGTH.size + size
        fields: dict[str, Any] = json.loads(content[_LENGTH.size : at])
        for side in ("inputs", "outputs"):
            arrays = {}
            for name, dtype, shape, length in fields[side]:
                arrays[name] = from_bytes(dtype_of(str(dtype)), shape, content[at : at + length])
                at += length
            fields[side] = arrays
        return Exchange(**fields)
    except (struct.error, KeyError, TypeError, UsageError, RecursionError) as exc:
        raise ValueError(f"no captured request ({type(exc).__name__})") from exc


def to_bytes(array: Array) -> bytes:
    """An array's elements in Triton's binary form."""
    if array.dtype.kind != "O":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    elements = [word.encode() if isinstance(word, str) else word for word in array.reshape(-1).tolist()]
    return b"".join(part for element in elements for part in (_LENGTH.pack(len(element)), element))


def from_bytes(dtype: DType, shape: Any, data: bytes) -> Array:
    """The array with these elements.

    Raises:
        ValueError: Shape and bytes do not agree.
    """
    sizes = tuple(map(int, shape))
    if any(size < 0 for size in sizes):
        raise ValueError("a dimension is negative")
    if dtype.triton == "BYTES":
        return of_texts(list(_elements(data)), sizes)
    if math.prod(sizes) * dtype.np.itemsize != len(data):
        raise ValueError("a tensor is not as long as its shape says")
    found: Array = np.frombuffer(data, dtype.np.newbyteorder("<")).reshape(sizes).astype(dtype.np)
    return found


def of_texts(elements: list[bytes], sizes: tuple[int, ...]) -> Array:
    """An array of texts, in which what is UTF-8 is `str`.

    Raises:
        ValueError: There are more or fewer of them than the shape says.
    """
    if math.prod(sizes) != len(elements):
        raise ValueError("a tensor has not as many texts as its shape says")
    flat = np.empty(len(elements), dtype=object)
    for index, element in enumerate(elements):
        try:
            flat[index] = element.decode()
        except UnicodeDecodeError:
            flat[index] = element
    return flat.reshape(sizes)


def _elements(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        if at + _LENGTH.size > len(data):
            raise ValueError("the length of a text is cut off")
        (size,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + size > len(data):
            raise ValueError("a text is cut off")
        yield data[at : at + size]
        at += size
