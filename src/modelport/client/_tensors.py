"""Checks a caller's tensors against a model's, adds and strips the batch axis, and encodes them. Pure functions.

What a caller may give for an input:

- Python numbers, texts and (nested) lists of them: converted to the model's element type. An integer is fine for a
  floating-point input, nothing else changes kind; a number that does not fit the type is refused.
- An array (numpy, or anything with `__array__`, such as a CPU torch tensor): its type is a statement, so it must be the
  model's, or widen to it without loss within the same kind (float32 to FP64, int32 to INT64, uint8 to INT16). A
  float64 array for an FP32 input is refused, as is an integer array for a floating-point input: scaling and rounding
  are the caller's to decide.
- BYTES: `str` (sent as UTF-8) or `bytes`, single, in lists, or in arrays.
- A single Python number or text where a sample has exactly one element: it is that sample.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelport.client._calls import RawSpec, Tensor
from modelport.errors import RequestError
from modelport.spec import VARIES, DType, ModelSpec, TensorSpec

BATCH_UNKNOWN = 2**31 - 1  # max_batch_size of a spec that came from a server: its metadata does not tell the number
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Checked inputs.

    Attributes:
        inputs: In the model's order, with the batch axis.
        outputs: Names of the wanted outputs; empty for all.
        single: Whether the caller gave one sample, so that the answer's batch axis must go.
        batch: Whether the caller gave a batch.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...]
    single: bool
    batch: bool


def spec_of(model: str, raw: RawSpec) -> ModelSpec:
    """A `ModelSpec` from what the metadata endpoint tells.

    It does not tell whether there is a batch axis. Triton shows one as a first dimension of -1 in every input and
    output, so that is taken for one; `max_batch_size` is then `BATCH_UNKNOWN`, as the number is not told either.
    """
    tensors = (*raw.inputs, *raw.outputs)
    batched = bool(raw.inputs) and all(t.dims[:1] == (VARIES,) for t in tensors)
    if not batched:
        return ModelSpec(name=model, inputs=raw.inputs, outputs=raw.outputs, max_batch_size=0)
    return ModelSpec(
        name=model,
        inputs=tuple(TensorSpec(name=t.name, dtype=t.dtype, dims=t.dims[1:]) for t in raw.inputs),
        outputs=tuple(TensorSpec(name=t.name, dtype=t.dtype, dims=t.dims[1:]) for t in raw.outputs),
        max_batch_size=BATCH_UNKNOWN,
    )


def prepare(spec: ModelSpec, given: Mapping[str, object], outputs: Sequence[str] | None) -> Prepared:
    """Check and encode a request.

    Args:
        spec: The model.
        given: Input name -> array, number, text or nested list.
        outputs: Names of the wanted outputs; None for all.

    Raises:
        RequestError: A name, type or shape is wrong; names the tensor, and says what was expected and what came.
    """
    _check_names(spec, given, outputs)
    arrays = {tensor.name: as_array(spec, tensor, given[tensor.name]) for tensor in spec.inputs}
    single = _is_single(spec, arrays)
    if single:
        arrays = {name: array[np.newaxis] for name, array in arrays.items()}
    _check_shapes(spec, arrays, single=single)
    encoded = tuple(
        Tensor(name=t.name, dtype=t.dtype, shape=arrays[t.name].shape, data=encode(t.dtype, arrays[t.name]))
        for t in spec.inputs
    )
    return Prepared(inputs=encoded, outputs=tuple(outputs or ()), single=single, batch=spec.batched and not single)


def _check_names(spec: ModelSpec, given: Mapping[str, object], outputs: Sequence[str] | None) -> None:
    inputs = [t.name for t in spec.inputs]
    known_outputs = [t.name for t in spec.outputs]
    wrong = [(name, f"input {name!r} is missing") for name in inputs if name not in given]
    wrong += [(name, f"there is no input {name!r}") for name in given if name not in inputs]
    wrong += [(name, f"there is no output {name!r}") for name in outputs or () if name not in known_outputs]
    if wrong:
        takes, gives = ", ".join(map(str, spec.inputs)), ", ".join(map(str, spec.outputs))
        raise RequestError(
            f"the request for model {spec.name!r} has wrong tensor names: {'; '.join(text for _, text in wrong)}",
            why=f"the model takes {takes} and gives {gives}",
            fix="use these names",
            tensor=wrong[0][0],
        )


def as_array(spec: ModelSpec, tensor: TensorSpec, value: object) -> Array:
    """`value` as an array of the tensor's element type, by the rules at the top of this module.

    Raises:
        RequestError: It cannot be, without changing its meaning.
    """
    is_array = hasattr(value, "__array__")
    try:
        array = np.asarray(value, dtype=object) if _is_text(tensor) and not is_array else np.asarray(value)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise _wrong_type(spec, tensor, "something that is no array", str(error)) from error
    if not is_array and array.ndim == 0 and all(size == 1 for size in tensor.dims):
        array = array.reshape(tensor.dims)
    if _is_text(tensor):
        return _texts(spec, tensor, array)
    want = tensor.dtype.np
    if array.dtype == want:
        return array
    if is_array:
        if _kind(array.dtype) != _kind(want) or not np.can_cast(array.dtype, want, "safe"):
            raise _wrong_type(spec, tensor, f"an array of {array.dtype.name}", "an array is not rounded or scaled")
        return array.astype(want)
    return _numbers(spec, tensor, array)


def _numbers(spec: ModelSpec, tensor: TensorSpec, array: Array) -> Array:
    """Python numbers, which numpy has put into a type of its own choice, in the tensor's type."""
    want = tensor.dtype.np
    if array.size and _kind(array.dtype) not in (("f", "i") if _kind(want) == "f" else (_kind(want),)):
        raise _wrong_type(spec, tensor, f"{array.dtype.name} values", "numbers do not change their kind by themselves")
    if _kind(want) == "i" and array.size:
        limits = np.iinfo(want)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise _wrong_type(spec, tensor, f"values up to {array.max()}", f"{want.name} ends at {limits.max}")
    with np.errstate(over="ignore"):
        converted = array.astype(want)
    if _kind(want) == "f" and array.size and bool((np.isinf(converted) & ~np.isinf(array)).any()):
        raise _wrong_type(spec, tensor, "a value too large for it", f"{want.name} ends at {np.finfo(want).max}")
    return converted


def _texts(spec: ModelSpec, tensor: TensorSpec, array: Array) -> Array:
    """The elements as bytes."""
    encoded = np.empty(array.size, dtype=object)
    for index, element in enumerate(array.astype(object).reshape(-1)):
        if not isinstance(element, str | bytes):
            raise _wrong_type(spec, tensor, f"a {type(element).__name__}", "each element must be str or bytes")
        try:
            encoded[index] = element.encode() if isinstance(element, str) else element
        except UnicodeEncodeError as error:
            raise _wrong_type(spec, tensor, "a str that is not valid Unicode", str(error)) from error
    return encoded.reshape(array.shape)


def _is_text(tensor: TensorSpec) -> bool:
    return tensor.dtype.triton == "BYTES"


def _kind(dtype: np.dtype[Any]) -> str:
    """`f`, `i` (signed or not), `b`, or another letter of numpy's."""
    return "i" if dtype.kind == "u" else dtype.kind


def _wrong_type(spec: ModelSpec, tensor: TensorSpec, got: str, why: str) -> RequestError:
    wanted = "str or bytes" if _is_text(tensor) else tensor.dtype.numpy
    return RequestError(
        f"input {tensor.name!r} of model {spec.name!r} must be {wanted} ({tensor.dtype}), got {got}",
        why=why,
        fix=f"give it as {wanted}" + ("" if _is_text(tensor) else f", such as with array.astype({wanted!r})"),
        tensor=tensor.name,
    )


def _is_single(spec: ModelSpec, arrays: Mapping[str, Array]) -> bool:
    """Whether every input lacks the batch axis that the model has."""
    return spec.batched and all(arrays[t.name].ndim == len(t.dims) for t in spec.inputs)


def _check_shapes(spec: ModelSpec, arrays: Mapping[str, Array], *, single: bool) -> None:
    """Every shape fits, all batches have the same number of rows, and that is at least one."""
    rows: dict[str, int] = {}
    for tensor in spec.inputs:
        shape = arrays[tensor.name].shape
        sample = shape[1:] if spec.batched else shape
        if (spec.batched and not shape) or not tensor.accepts(sample):
            got = sample if single else shape
            why = "the number of axes is wrong" if len(sample) != len(tensor.dims) else "a dimension is wrong"
            raise _wrong_shape(spec, tensor, got, why)
        if spec.batched:
            rows[tensor.name] = shape[0]
            if shape[0] == 0:
                raise _wrong_shape(spec, tensor, shape, "a batch has at least one row")
            if shape[0] != rows[spec.inputs[0].name]:
                raise _wrong_shape(
                    spec, tensor, shape, f"input {spec.inputs[0].name!r} has {rows[spec.inputs[0].name]} rows"
                )


def _wrong_shape(spec: ModelSpec, tensor: TensorSpec, got: tuple[int, ...], why: str) -> RequestError:
    dims = ["any" if d == VARIES else str(d) for d in tensor.dims]
    expected = f"[{', '.join(dims)}]"
    if spec.batched:
        expected += f" for one sample or [{', '.join(['N', *dims])}] for a batch of N"
    return RequestError(
        f"input {tensor.name!r} of model {spec.name!r} must have the shape {expected}, got {list(got)}",
        why=why,
        fix="reshape it; all inputs must be given either as one sample or as a batch"
        if len(spec.inputs) > 1
        else "reshape it",
        tensor=tensor.name,
    )


def encode(dtype: DType, array: Array) -> bytes:
    """An array's elements in Triton's binary form. Those of BYTES are `bytes` already."""
    if dtype.triton != "BYTES":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return b"".join(part for element in array.reshape(-1) for part in (struct.pack("<I", len(element)), element))


def misfit(spec: ModelSpec, answer: Mapping[str, Tensor], wanted: Sequence[str]) -> str:
    """What of an answer is not as the model's outputs are; empty when all is.

    The first axis may have any size: metadata does not tell a batch axis from another one that varies.

    Args:
        spec: The model.
        answer: Output name -> tensor.
        wanted: Names of the outputs that were asked for; empty for all.
    """
    for tensor in spec.outputs:
        if wanted and tensor.name not in wanted:
            continue
        got = answer.get(tensor.name)
        if got is None:
            return f"output {tensor.name!r} is missing"
        shape = got.shape[1:] if spec.batched else got.shape
        if got.dtype != tensor.dtype or (spec.batched and not got.shape) or not tensor.accepts(shape):
            return f"output {tensor.name!r} is {got.dtype} {list(got.shape)}; the model's metadata says {tensor}"
    return ""


def decode(tensor: Tensor) -> Array:
    """The array that a server sent. It is the caller's to change.

    Raises:
        ValueError: Shape and bytes do not agree.
    """
    if tensor.dtype.triton == "BYTES":
        elements = list(_elements(tensor.data))
        if len(elements) != _count(tensor.shape):
            raise ValueError(f"output {tensor.name!r} has shape {list(tensor.shape)} and {len(elements)} elements")
        flat = np.empty(len(elements), dtype=object)
        flat[:] = elements
        return flat.reshape(tensor.shape)
    dtype = tensor.dtype.np.newbyteorder("<")
    if _count(tensor.shape) * dtype.itemsize != len(tensor.data):
        raise ValueError(f"output {tensor.name!r} has shape {list(tensor.shape)} and {len(tensor.data)} bytes")
    return np.frombuffer(tensor.data, dtype=dtype).reshape(tensor.shape).astype(tensor.dtype.np)


def _count(shape: Sequence[int]) -> int:
    if any(size < 0 for size in shape):
        raise ValueError(f"a negative dimension in {list(shape)}")
    return math.prod(shape)


def _elements(data: bytes) -> Iterable[str | bytes]:
    """The elements of a BYTES tensor: as text where they are UTF-8."""
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise ValueError("a length of a BYTES element is cut off")
        (size,) = struct.unpack_from("<I", data, at)
        raw = data[at + 4 : at + 4 + size]
        if len(raw) != size:
            raise ValueError("a BYTES element is cut off")
        at += 4 + size
        try:
            yield raw.decode()
        except UnicodeDecodeError:
            yield raw


def without_batch_axis(array: Array) -> Array:
    """The only row of a batch of one.

    Raises:
        ValueError: There is not exactly one row.
    """
    if array.shape[:1] != (1,):
        raise ValueError(f"one row was sent and an output has the shape {list(array.shape)}")
    return array.reshape(array.shape[1:])
