"""What the models are asked: their own golden inputs, one row in each request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelport.convert.runtime import onnxruntime
from modelport.repository import manifest
from modelport.repository.layout import version_folder

Array = np.ndarray[Any, Any]
LENGTHS = 32
SHORTEST = 10


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A model and its requests.

    Attributes:
        model: The ONNX file.
        input: Name of its input.
        output: Name of its first output.
        rows: One for each request, without the batch axis.
        answers: ONNX Runtime's answers to them.
    """

    model: Path
    input: str
    output: str
    rows: tuple[Array, ...]
    answers: tuple[Array, ...]


def of(repository: Path, name: str) -> Workload:
    """The workload of a model with one input.

    A model that takes any length gets 32 requests of mixed lengths: its golden rows, without the zeros at their ends,
    cut off at 10 to all of their words. Others get one request: all golden rows cost the same.

    Raises:
        ModelNotFoundError, VersionNotFoundError: The model was not built.
    """
    folder = version_folder(repository, name)
    spec = manifest.read(folder).spec
    (given,), (answer, *_) = spec.inputs, spec.outputs
    with np.load(folder / "golden.npz") as golden:
        table = golden[f"input:{given.name}"]
    rows = _mixed(table) if -1 in given.dims else [table[0]]
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    answers = tuple(session.run([answer.name], {given.name: row[None]})[0].ravel() for row in rows)
    model = (folder / "model.onnx").resolve()
    return Workload(model=model, input=given.name, output=answer.name, rows=tuple(rows), answers=answers)


def _mixed(table: Array) -> list[Array]:
    random = np.random.default_rng(0)
    whole = [row[: np.flatnonzero(row)[-1] + 1] for row in table]
    return [row[: random.integers(SHORTEST, len(row) + 1)] for row in (whole * LENGTHS)[:LENGTHS]]
