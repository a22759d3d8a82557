"""What an ONNX graph says of its inputs and outputs, and where that does not fit a model's tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from modelport.spec import VARIES, ModelSpec, TensorSpec


@dataclass(frozen=True, kw_only=True)
class Stated:
    """One input or output of a graph.

    Attributes:
        name: Its name.
        type: Name of the ONNX element type, such as `FLOAT`.
        number: Its number in ONNX.
        sizes: Size of each axis, a word where it varies; None where the graph does not say how many axes there are.
    """

    name: str
    type: str
    number: int
    sizes: tuple[int | str, ...] | None

    def __str__(self) -> str:
        sizes = "?" if self.sizes is None else ",".join(map(str, self.sizes))
        return f"{self.name}: {self.type}[{sizes}]"


def stated(model: onnx.ModelProto) -> tuple[tuple[Stated, ...], tuple[Stated, ...]]:
    """The inputs that a caller must give, and the outputs, as the graph states them."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    return tuple(map(_stated, inputs)), tuple(map(_stated, model.graph.output))


def misfits(spec: ModelSpec, model: onnx.ModelProto) -> list[str]:
    """One line for each tensor of a model that the graph does not have like this, or has beside them.

    Args:
        spec: What callers send and get.
        model: The graph.
    """
    found: list[str] = []
    for word, tensors, values in zip(("input", "output"), (spec.inputs, spec.outputs), stated(model), strict=True):
        have = {value.name: value for value in values}
        missing = [tensor for tensor in tensors if tensor.name not in have]
        other = [value for value in values if value.name not in {tensor.name for tensor in tensors}]
        if missing or other:
            wanted = ", ".join(tensor.name for tensor in tensors)
            found.append(f"expected are the {word}s {wanted}; the file has {', '.join(map(str, values)) or 'none'}")
            continue
        found += [
            f"expected is the {word} {_expected(spec, tensor)}; the file has {have[tensor.name]}"
            for tensor in tensors
            if not _fits(spec, tensor, have[tensor.name])
        ]
    return found


def axis_names(model: onnx.ModelProto) -> dict[str, dict[int, str]]:
    """The names that a graph gives to varying axes of its inputs; axes of one name have one size."""
    return {
        value.name: {axis: size for axis, size in enumerate(value.sizes or ()) if isinstance(size, str)}
        for value in stated(model)[0]
    }


def scalars(model: onnx.ModelProto) -> set[str]:
    """The inputs and outputs that have no axis at all."""
    return {value.name for group in stated(model) for value in group if value.sizes == ()}


def _stated(value: onnx.ValueInfoProto) -> Stated:
    tensor = value.type.tensor_type
    kind = value.type.WhichOneof("value") or "nothing"
    known = kind == "tensor_type" and tensor.elem_type in onnx.TensorProto.DataType.values()
    sizes = None
    if tensor.HasField("shape"):
        sizes = tuple(
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{value.name}_{axis}"
            for axis, dim in enumerate(tensor.shape.dim)
        )
    return Stated(
        name=value.name,
        type=onnx.TensorProto.DataType.Name(tensor.elem_type) if known else kind,
        number=tensor.elem_type if known else 0,
        sizes=sizes,
    )


def _fits(spec: ModelSpec, tensor: TensorSpec, value: Stated) -> bool:
    if value.number != tensor.dtype.onnx:
        return False
    sizes = value.sizes
    if sizes is None:  # running it will tell
        return True
    if spec.batched:
        if not sizes or isinstance(sizes[0], int):
            return False
        sizes = sizes[1:]
    return len(sizes) == len(tensor.dims) and all(map(_same, tensor.dims, sizes))


def _same(want: int, have: int | str) -> bool:
    return isinstance(have, str) or want == have


def _expected(spec: ModelSpec, tensor: TensorSpec) -> str:
    name = onnx.TensorProto.DataType.Name(tensor.dtype.onnx)
    words: Sequence[str] = ["?" if size == VARIES else str(size) for size in tensor.dims]
    return f"{tensor.name}: {name}[{','.join([*(['batch'] if spec.batched else []), *words])}]"
