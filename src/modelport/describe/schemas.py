"""Tensors, requests and answers as JSON Schema (2020-12), the dialect of OpenAPI 3.1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from modelport.describe.tensors import Tensor
from modelport.spec import VARIES

Schema = dict[str, Any]

LABELS_SHOWN = 20  # of the labels, in words; all of them are in `x-labels`
_FLOATS = {"FP32": "float", "FP64": "double"}


def request(inputs: Sequence[Tensor], outputs: Sequence[Tensor], batch: int) -> Schema:
    """The body of a request.

    Args:
        inputs: What the model takes.
        outputs: What it gives.
        batch: Rows at most; 0 where the tensors have no batch axis.
    """
    needed = sum(not tensor.optional for tensor in inputs)
    chosen = {"name": {"enum": [tensor.name for tensor in outputs]}, "parameters": {"type": "object"}}
    return _object(
        {
            "id": {"type": "string", "description": "Comes back in the answer."},
            "parameters": {"type": "object"},
            "inputs": {
                "type": "array",
                "description": "Each input once, in any order; all with the same number of rows.",
                "items": _one_of([tensor_schema(tensor, batch) for tensor in inputs]),
                "minItems": needed,
                "maxItems": len(inputs),
            },
            "outputs": {
                "type": "array",
                "description": "The outputs that are wanted; all of them where it is left out.",
                "items": _object(chosen, required=["name"]),
            },
        },
        required=["inputs"],
    )


def answer(name: str, outputs: Sequence[Tensor], batch: int) -> Schema:
    """The body of an answer; arguments as for `request`."""
    return _object(
        {
            "model_name": {"const": name},
            "model_version": {"type": "string", "description": "The version that answered."},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": _one_of([tensor_schema(tensor, batch) for tensor in outputs])},
        },
        required=["model_name", "model_version", "outputs"],
    )


def metadata(name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Schema:
    """What Triton says of a model."""

    def tensors(group: Sequence[Tensor]) -> Schema:
        items = {
            "name": {"enum": [tensor.name for tensor in group]},
            "datatype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}, "description": "-1 where the size may differ."},
        }
        return {"type": "array", "items": _object(items, required=list(items))}

    known = {
        "name": {"const": name},
        "versions": {"type": "array", "items": {"type": "string"}},
        "platform": {"type": "string"},
        "inputs": tensors(inputs),
        "outputs": tensors(outputs),
    }
    return _object(known, required=["name", "inputs", "outputs"])


def tensor_schema(tensor: Tensor, batch: int) -> Schema:
    """A tensor in JSON."""
    rows = [{"type": "integer", "minimum": 1, "maximum": batch, "description": "rows"}] if batch else []
    sizes = [{"type": "integer", "minimum": 1} if dim == VARIES else {"const": dim} for dim in tensor.dims]
    shape = [*rows, *sizes]
    data: Schema = {"type": "array", "description": "The values, row by row.", "items": value(tensor.datatype)}
    if VARIES not in tensor.dims and not batch:
        data["minItems"] = data["maxItems"] = math.prod(tensor.dims)
    fields = {
        "name": {"const": tensor.name},
        "datatype": {"const": tensor.datatype},
        "shape": {"type": "array", "prefixItems": shape, "minItems": len(shape), "maxItems": len(shape)},
        "parameters": {"type": "object"},
        "data": data,
    }
    required = ["name", "datatype", "shape", *(["data"] if data["items"] else [])]
    made = _object(fields, required=required)
    made.update(title=tensor.name, description=words(tensor, batch))
    if tensor.labels:
        made["x-labels"] = list(tensor.labels)
    return made


def value(datatype: str) -> Schema:
    """A value in JSON; nothing where it has no form there."""
    if datatype in _FLOATS:
        return {"type": "number", "format": _FLOATS[datatype]}
    if datatype == "BOOL":
        return {"type": "boolean"}
    if datatype == "BYTES":
        return {"type": "string"}
    signed, bits = datatype.startswith("INT"), datatype.lstrip("UINT")
    if not bits.isdecimal():
        return {}
    low, high = (-(1 << int(bits) - 1), (1 << int(bits) - 1) - 1) if signed else (0, (1 << int(bits)) - 1)
    known = {"format": f"int{bits}"} if signed and bits in ("32", "64") else {}
    return {"type": "integer", "minimum": low, "maximum": high, **known}


def shape_words(tensor: Tensor, batch: int) -> str:
    """A shape in words, such as `[1 to 32, 28, 28, any]`."""
    rows = [f"1 to {batch}" if batch > 1 else "1"] if batch else []
    return f"[{', '.join([*rows, *('any' if dim == VARIES else str(dim) for dim in tensor.dims)])}]"


def words(tensor: Tensor, batch: int) -> str:
    """A tensor in words."""
    said = [f"{tensor.datatype} of the shape {shape_words(tensor, batch)}."]
    if tensor.optional:
        said.append("May be left out.")
    if not value(tensor.datatype):
        said.append(
            "JSON has no form for these values: they go as bytes behind the JSON, which any Triton client does."
        )
    if tensor.labels:
        shown = ", ".join(tensor.labels[:LABELS_SHOWN])
        more = f", and {len(tensor.labels) - LABELS_SHOWN} more" if len(tensor.labels) > LABELS_SHOWN else ""
        said.append(f"The labels of its values: {shown}{more}.")
    return " ".join(said)


def _one_of(schemas: list[Schema]) -> Schema:
    return schemas[0] if len(schemas) == 1 else {"oneOf": schemas}


def _object(properties: Schema, *, required: Sequence[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}
