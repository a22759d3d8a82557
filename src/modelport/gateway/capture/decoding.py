"""What the gate sends of a captured request, as an `Exchange`: HTTP with JSON or binary tensors, and gRPC.

What cannot be read in full is not kept at all: what is not known cannot be redacted. The protocols are told in
https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol and in Triton's extension for binary
tensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelport.convert.types import Array, Arrays
from modelport.errors import InvalidNameError, UsageError
from modelport.gateway.capture.exchange import Exchange, Parameters, from_bytes, of_texts
from modelport.spec import DType, check_model_name, dtype_of, parse_version

GRPC = "grpc"
_FRAME = 5  # bytes in front of a gRPC message: whether it is compressed, and its length
_TYPED = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_FITTING = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}  # what numpy makes of a list, where it needs no closer look


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A request and its answer as the gate sends them.

    Attributes:
        headers: With lower-case names: `x-model`, `x-version`, `x-tenant`, `x-protocol`, `x-status`,
            `x-request-length`, `x-request-json`, `x-answer-json`.
        body: The request's bytes, and the answer's behind them.
        at: When it came, in seconds since 1970.
    """

    headers: Mapping[str, str]
    body: bytes
    at: float


@dataclass(frozen=True, kw_only=True)
class _Half:
    """A request or an answer."""

    tensors: Arrays
    version: str = ""
    request_id: str = ""
    parameters: Parameters
    ranked: frozenset[str] = frozenset()  # outputs of which only the highest scores are wanted, as texts


def decode(pair: Pair) -> Exchange:
    """The request and the answer by tensor names.

    Outputs that were asked for as classes are left out: they are no longer what the model answered.

    Raises:
        ValueError: It cannot be read in full; the words hold nothing of what is in it.
    """
    headers, size = pair.headers, _number(pair.headers, "x-request-length")
    if size > len(pair.body):
        raise ValueError("the body is shorter than its request")
    read = _grpc if headers.get("x-protocol") == GRPC else _http
    status = _number(headers, "x-status")
    try:
        asked = read(pair.body[:size], "inputs", _number(headers, "x-request-json"))
        rest = pair.body[size:]
        answered = read(rest, "outputs", _number(headers, "x-answer-json")) if rest and status == 200 else None
        named = headers.get("x-version", "") or (answered.version if answered else "")
        return Exchange(
            model=check_model_name(headers.get("x-model", "")),
            version=parse_version(named) if named else None,
            at=pair.at,
            protocol=headers.get("x-protocol", "http"),
            status=status,
            inputs=asked.tensors,
            outputs={n: a for n, a in answered.tensors.items() if n not in asked.ranked} if answered else {},
            request_id=asked.request_id,
            parameters=asked.parameters,
            tenant=headers.get("x-tenant", ""),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as exc:
        raise ValueError(f"it cannot be read ({type(exc).__name__})") from None
    except (UsageError, InvalidNameError) as exc:
        raise ValueError(f"a name, version or type in it cannot be ({type(exc).__name__})") from None


def _http(content: bytes, side: str, json_size: int) -> _Half:
    if json_size > len(content):
        raise ValueError("the JSON is cut off")
    at = json_size or len(content)
    head: dict[str, Any] = json.loads(content[:at])
    tensors: Arrays = {}
    for one in head[side]:
        name, dtype, shape = _name(one["name"], tensors), dtype_of(str(one["datatype"])), one["shape"]
        size = one.get("parameters", {}).get("binary_data_size")
        if size is None:
            tensors[name] = _listed(dtype, shape, one["data"])
            continue
        if not isinstance(size, int) or not 0 <= size <= len(content) - at:
            raise ValueError("a tensor is cut off")
        tensors[name] = from_bytes(dtype, shape, content[at : at + size])
        at += size
    if at != len(content):
        raise ValueError("there is more than its tensors")
    return _Half(
        tensors=tensors,
        version=str(head.get("model_version", "")),
        request_id=str(head.get("id", "")),
        parameters=_plain(head.get("parameters", {})),
        ranked=frozenset(
            str(one["name"])
            for one in (head.get("outputs", []) if side == "inputs" else [])
            if one.get("parameters", {}).get("classification")
        ),
    )


def _grpc(content: bytes, side: str, _: int) -> _Half:
    from google.protobuf.message import DecodeError
    from tritonclient.grpc import service_pb2 as pb

    if content[:1] != b"\0" or len(content) - _FRAME != int.from_bytes(content[1:_FRAME], "big"):
        raise ValueError("it is no single plain message")
    message = pb.ModelInferRequest() if side == "inputs" else pb.ModelInferResponse()
    try:
        message.ParseFromString(content[_FRAME:])
    except DecodeError:
        raise ValueError("it is no message of this kind") from None
    found = message.inputs if side == "inputs" else message.outputs
    raw = message.raw_input_contents if side == "inputs" else message.raw_output_contents
    if raw and len(raw) != len(found):
        raise ValueError("there are not as many tensors as contents")
    tensors: Arrays = {}
    for index, one in enumerate(found):
        dtype = dtype_of(one.datatype)
        name = _name(one.name, tensors)
        tensors[name] = from_bytes(dtype, one.shape, raw[index]) if raw else _typed(dtype, one)
    asked = message.outputs if side == "inputs" else ()
    return _Half(
        tensors=tensors,
        version=message.model_version if side == "outputs" else "",
        request_id=message.id,
        parameters=_plain({key: _chosen(value) for key, value in message.parameters.items()}),
        ranked=frozenset(one.name for one in asked if one.parameters["classification"].int64_param),
    )


def _typed(dtype: DType, tensor: Any) -> Array:
    """Contents that are not raw; FP16 has no such form."""
    values = getattr(tensor.contents, _TYPED[dtype.triton])
    return _of_values(dtype, tuple(tensor.shape), list(values), lambda word: bytes(word))


def _listed(dtype: DType, shape: Any, data: Any) -> Array:
    """A (nested) list of JSON; the nesting may be as the shape, or none."""
    sizes = tuple(map(int, shape))
    if any(size < 0 for size in sizes):
        raise ValueError("a dimension is negative")
    quick = None if dtype.triton == "BYTES" else np.asarray(data)
    if quick is not None and quick.dtype.kind in _FITTING[dtype.np.kind] and _in_range(quick, dtype):
        with np.errstate(over="ignore"):
            return quick.astype(dtype.np).reshape(sizes)
    flat = np.array(data, dtype=object).reshape(-1).tolist()
    return _of_values(dtype, sizes, flat, lambda word: word.encode("utf-8", "surrogatepass"))


def _of_values(dtype: DType, sizes: tuple[int, ...], values: list[Any], text: Callable[[Any], bytes]) -> Array:
    if dtype.triton == "BYTES":
        return of_texts([text(value) for value in values], sizes)
    if len(values) != math.prod(sizes):
        raise ValueError("a tensor has not as many values as its shape says")
    if not all(isinstance(value, int | float) for value in values):
        raise ValueError("a value is no number")
    if dtype.np.kind in "iu":
        limits = np.iinfo(dtype.np)
        if not all(isinstance(value, int) and limits.min <= value <= limits.max for value in values):
            raise ValueError("a value does not fit its type")
    with np.errstate(over="ignore"):
        return np.array(values, dtype=dtype.np).reshape(sizes)


def _in_range(array: Array, dtype: DType) -> bool:
    if dtype.np.kind not in "iu" or not array.size:
        return True
    limits = np.iinfo(dtype.np)
    return limits.min <= int(array.min()) and int(array.max()) <= limits.max


def _chosen(parameter: Any) -> Any:
    kind = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, kind) if kind else ""


def _plain(parameters: Mapping[str, Any]) -> Parameters:
    return {str(key): value for key, value in parameters.items() if isinstance(value, str | int | float | bool)}


def _name(name: Any, known: Mapping[str, Array]) -> str:
    if not isinstance(name, str) or name in known:
        raise ValueError("a tensor has no name, or the name of another one")
    return name


def _number(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(name, "0")
    if not text.isdecimal() or len(text) > 12:
        raise ValueError(f"{name} is no number")
    return int(text)
