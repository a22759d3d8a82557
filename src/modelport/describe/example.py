"""A request that works, and the trained model's answer to it: the first of the golden ones that JSON can hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelport.convert.types import Array, rows, take
from modelport.describe.tensors import Tensor
from modelport.errors import ManifestError
from modelport.repository import config as configs
from modelport.spec import ModelSpec, dtype_of
from modelport.verify import evidence as evidences

ELEMENTS_MOST = 4096  # values of a request that is shown as it is
ROWS_TRIED = 16
_NO_JSON = ("FP16", "BF16")  # Triton takes and gives these as bytes only


@dataclass(frozen=True, kw_only=True)
class Example:
    """A request and its answer.

    Attributes:
        request: The body of a request over HTTP; None where it would be long.
        response: The body of the answer; None where JSON cannot hold it, or it would be long.
        made_by: A Python program that prints a request of the same shape, where `request` is None.
    """

    request: Mapping[str, Any] | None
    response: Mapping[str, Any] | None
    made_by: str = ""


def read(
    folder: Path, spec: ModelSpec, inputs: Sequence[Tensor], outputs: Sequence[Tensor], *, batched: bool
) -> Example | None:
    """An example from a version's golden inputs; None where there are none that fit, or that JSON can hold.

    Args:
        folder: The version's.
        spec: Of its manifest.
        inputs: What the model takes now; its owner may have changed the configuration.
        outputs: What it gives.
        batched: Whether its tensors have a batch axis.
    """
    try:
        proof, golden = evidences.read(folder)
    except ManifestError:
        return None
    if proof.batched != batched or not golden.inputs:
        return None
    picks = range(min(rows(golden.inputs), ROWS_TRIED)) if batched else [None]
    for pick in picks:
        given = configs.outside(golden.inputs if pick is None else take(golden.inputs, [pick]), spec.inputs)
        if not _fits(given, inputs, batched) or any(tensor.datatype in _NO_JSON for tensor in inputs):
            return None
        if all(map(_in_json, given.values())):
            answer = configs.outside(golden.outputs if pick is None else take(golden.outputs, [pick]), spec.outputs)
            return _example(folder, given, answer, outputs)
    return None


def _fits(given: Mapping[str, Array], tensors: Sequence[Tensor], batched: bool) -> bool:
    known = {tensor.name: tensor for tensor in tensors}
    missing = [tensor.name for tensor in tensors if not tensor.optional and tensor.name not in given]
    return not missing and all(
        name in known and known[name].accepts(array.shape[int(batched) :], dtype_of(array).triton)
        for name, array in given.items()
    )


def _in_json(array: Array) -> bool:
    """Whether JSON can hold its values: no NaN, no infinity, no text that is not Unicode."""
    if array.dtype.kind == "f":
        return bool(np.isfinite(array).all())
    return array.dtype.kind != "O" or all(_is_unicode(word) for word in array.ravel().tolist())


def _is_unicode(word: object) -> bool:
    return isinstance(word, str) and word.encode("utf-8", "replace") == word.encode("utf-8", "surrogatepass")


def _example(
    folder: Path, given: Mapping[str, Array], answer: Mapping[str, Array], outputs: Sequence[Tensor]
) -> Example:
    raw = [tensor.name for tensor in outputs if tensor.datatype in _NO_JSON]
    wanted = {"outputs": [_wanted(tensor.name, raw) for tensor in outputs]} if raw else {}
    response = None
    if not raw and all(map(_in_json, answer.values())) and _elements(answer) <= ELEMENTS_MOST:
        about = {"model_name": folder.parent.name, "model_version": folder.name}
        response = {**about, "outputs": [_tensor(name, array) for name, array in answer.items()]}
    if _elements(given) <= ELEMENTS_MOST:
        return Example(request={"inputs": [_tensor(n, a) for n, a in given.items()], **wanted}, response=response)
    return Example(request=None, response=response, made_by=_program(given, wanted))


def _wanted(name: str, raw: Sequence[str]) -> dict[str, Any]:
    return {"name": name, **({"parameters": {"binary_data": True}} if name in raw else {})}


def _elements(arrays: Mapping[str, Array]) -> int:
    return sum(array.size for array in arrays.values())


def _tensor(name: str, array: Array) -> dict[str, Any]:
    return {**_head(name, array), "data": _values(array)}


def _head(name: str, array: Array) -> dict[str, Any]:
    return {"name": name, "datatype": dtype_of(array).triton, "shape": list(array.shape)}


def _values(array: Array) -> list[Any]:
    """The values in their order; those of FP32 with as few digits as tell them apart."""
    values: list[Any] = array.ravel().tolist()
    return [float(str(np.float32(one))) for one in values] if array.dtype == np.float32 else values


def _program(given: Mapping[str, Array], wanted: Mapping[str, Any]) -> str:
    """Prints a request of the same shapes, filled with nothing: zeros, empty texts."""
    fill = {"BOOL": "False", "BYTES": '""', "FP32": "0.0", "FP64": "0.0"}
    lines = ["import json", "", "inputs = ["]
    for name, array in given.items():
        head = _head(name, array)
        words = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items())
        lines.append(f'    {{{words}, "data": [{fill.get(head["datatype"], "0")}] * {array.size}}},')
    rest = f", **{dict(wanted)!r}" if wanted else ""
    return "\n".join([*lines, "]", f'print(json.dumps({{"inputs": inputs{rest}}}))', ""])
