"""A version's golden inputs as perf_analyzer's data file: it sends one row after the other, round and round.

Every tensor is written as base64 of its bytes with its shape, whatever its type: exact, compact for large ones, and
with the sizes that vary filled in.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelport.convert.types import Array, Arrays, rows, take
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.verify import evidence as evidences

LARGEST_BYTES = 64 << 20  # of the tensors; perf_analyzer keeps them all, and rows of one model cost about the same


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What was written.

    Attributes:
        path: The data file.
        samples: How many requests of one row it holds.
        largest_output_bytes: Bytes of the largest output of one row.
    """

    path: Path
    samples: int
    largest_output_bytes: int


def write(folder: Path, path: Path) -> Recorded:
    """Write the golden inputs of a version.

    Args:
        folder: The version folder.
        path: The JSON file to write.

    Raises:
        ManifestError: The version has no readable manifest or evidence.
    """
    spec = manifests.read(folder).spec
    evidence, golden = evidences.read(folder)
    inputs, outputs = configs.outside(golden.inputs, spec.inputs), configs.outside(golden.outputs, spec.outputs)
    samples: list[Mapping[str, Any]] = []
    size = 0
    for sample in _samples(inputs, batched=evidence.batched):
        encoded = {name: to_bytes(array) for name, array in sample.items()}
        size += sum(map(len, encoded.values()))
        if samples and size > LARGEST_BYTES:
            break
        samples.append({name: _tensor(data, sample[name]) for name, data in encoded.items()})
    path.write_text(json.dumps({"data": samples}), encoding="ascii")
    first = next(_samples(outputs, batched=evidence.batched))
    largest = max((len(to_bytes(array)) for array in first.values()), default=0)
    return Recorded(path=path, samples=len(samples), largest_output_bytes=largest)


def to_bytes(array: Array) -> bytes:
    """A tensor as Triton's protocol has it: little-endian in C order; each string behind its length in four bytes."""
    if array.dtype.kind not in "SUO":
        return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).tobytes()
    words = [word if isinstance(word, bytes) else str(word).encode() for word in array.ravel().tolist()]
    return b"".join(len(word).to_bytes(4, "little") + word for word in words)


def _samples(arrays: Arrays, *, batched: bool) -> Iterator[Arrays]:
    """One after the other, without the batch axis; where there is none, all is one sample."""
    if not batched:
        yield arrays
        return
    for index in range(rows(arrays)):
        yield {name: array[0] for name, array in take(arrays, [index]).items()}


def _tensor(data: bytes, array: Array) -> dict[str, Any]:
    return {"content": {"b64": base64.b64encode(data).decode("ascii")}, "shape": list(array.shape)}
