"""Labelled data: rows that go to a model, what is right for each, and what groups they belong to.

A file is `.npz` with the inputs by tensor name, `labels`, and columns `slice_<name>`; or `.csv` with a header and the
same columns, for models whose inputs are numbers or texts.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from modelport.convert.samples import UNREADABLE, read_foreign_npz
from modelport.errors import DataError
from modelport.evaluate.forms import Array
from modelport.spec import ModelSpec, TensorSpec

LABELS, SLICE = "labels", "slice_"
_OURS = "modelport:"  # npz names that no tensor can have
_FORMS = f"an .npz holds the inputs by tensor name, `{LABELS}`, and `{SLICE}<name>` where there are groups of rows"


@dataclass(frozen=True, kw_only=True)
class EvaluationData:
    """Labelled rows.

    Attributes:
        name: Where they come from, for people.
        inputs: Arrays by input name, rows along axis 0.
        labels: What is right, one row each; see `modelport.evaluate.metrics` for its form.
        slices: Column to the group of each row.
        metrics: What they are usually scored by; empty where nothing was said.
        padded: The inputs end in zeros along axis 1 that mean nothing and need not be sent.
    """

    name: str
    inputs: Mapping[str, Array]
    labels: Array
    slices: Mapping[str, Array] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    padded: bool = False

    def __post_init__(self) -> None:
        lengths = {name: len(array) if array.ndim else 0 for name, array in self._arrays().items()}
        if not self.inputs or not len(self.labels) or {*lengths.values()} != {len(self.labels)}:
            raise _unusable(
                self.name,
                f"rows: {', '.join(f'{name} has {n}' for name, n in lengths.items())}"
                + ("" if self.inputs else "; there is no input"),
                "give one row of each for every sample, and at least one",
            )

    @property
    def rows(self) -> int:
        """How many samples there are."""
        return len(self.labels)

    @property
    def sha256(self) -> str:
        """A digest of the rows, whatever file they came in."""
        digest = hashlib.sha256()
        for name, array in sorted(self._arrays().items()):
            plain = np.ascontiguousarray(_plain(array))
            digest.update(f"{name} {plain.dtype.str} {plain.shape}\n".encode() + plain.tobytes())
        return digest.hexdigest()

    def groups(self) -> dict[str, dict[str, Array]]:
        """Column to the groups in it, each with the rows that belong to it."""
        return {
            column: {str(value): np.flatnonzero(of_row == value) for value in np.unique(of_row)}
            for column, of_row in ((name, array.astype(str)) for name, array in self.slices.items())
        }

    def _arrays(self) -> dict[str, Array]:
        columns = {f"{SLICE}{name}": array for name, array in self.slices.items()}
        return {**self.inputs, LABELS: self.labels, **columns}


def read(path: Path, spec: ModelSpec | None = None) -> EvaluationData:
    """Read a file.

    Args:
        path: An `.npz` or `.csv` file.
        spec: The model's tensors; a `.csv` needs them.

    Raises:
        DataError: It is missing, damaged, or holds something else.
        UnsafeSourceError: It is a zip bomb.
    """
    if path.suffix == ".csv" and spec is not None:
        return _read_csv(path, spec)
    if path.suffix != ".npz":
        raise _unusable(
            path, f"its name does not end with .npz or .csv; {_FORMS}", "write such a file with numpy.savez"
        )
    try:
        arrays = dict(read_foreign_npz(path))
    except UNREADABLE as exc:
        raise _unusable(
            path, f"{type(exc).__name__}: {exc}", "name a file that numpy.savez wrote, without objects"
        ) from exc
    if LABELS not in arrays:
        raise _unusable(path, f"it has no array {LABELS!r}; it has {', '.join(arrays)}", _FORMS)
    own = {name.removeprefix(_OURS): arrays.pop(name) for name in list(arrays) if name.startswith(_OURS)}
    labels = arrays.pop(LABELS)
    slices = {name.removeprefix(SLICE): arrays.pop(name) for name in list(arrays) if name.startswith(SLICE)}
    return EvaluationData(
        name=str(own.get("name", path.name)),
        inputs={name: _object(array) for name, array in arrays.items()},
        labels=labels,
        slices=slices,
        metrics=tuple(own["metrics"].tolist()) if "metrics" in own else (),
        padded=bool(own.get("padded", False)),
    )


def write(path: Path, data: EvaluationData) -> None:
    """Write an `.npz` file that `read` takes; under a temporary name first.

    Raises:
        OSError: The disk refused.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: _plain(array) for name, array in data._arrays().items()}
    own = {"name": data.name, "metrics": data.metrics, "padded": data.padded}
    arrays |= {f"{_OURS}{name}": np.array(value) for name, value in own.items() if value}
    temporary = path.with_suffix(".tmp.npz")
    np.savez_compressed(temporary, **arrays)
    temporary.replace(path)


def _read_csv(path: Path, spec: ModelSpec) -> EvaluationData:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as exc:
        raise _unusable(path, f"{type(exc).__name__}: {exc}", "give a CSV file with a header and a line a row") from exc
    wrong = [str(number) for number, line in enumerate(lines, 2) if len(line) != len(header)]
    if LABELS not in header or wrong or not lines:
        why = f"line {wrong[0]} has another number of cells" if wrong else f"it has no rows or no column {LABELS!r}"
        raise _unusable(path, why, f"give columns for the inputs, {LABELS!r}, and {SLICE}<name>")
    cells = dict(zip(header, np.array(lines).T, strict=True))
    labels = cells.pop(LABELS)
    slices = {name.removeprefix(SLICE): cells.pop(name) for name in list(cells) if name.startswith(SLICE)}
    return EvaluationData(name=path.name, inputs=_from_cells(path, cells, spec), labels=_numbers(labels), slices=slices)


def _from_cells(path: Path, cells: Mapping[str, Array], spec: ModelSpec) -> dict[str, Array]:
    """A column for each input; or, where there is one input, its numbers in the order of the columns."""
    tensors = {tensor.name: tensor for tensor in spec.inputs}
    if {*cells} == {*tensors}:
        return {name: _typed(path, cells[name][:, None], tensor) for name, tensor in tensors.items()}
    (first, *others) = spec.inputs
    if others or list(first.dims) != [len(cells)]:
        wants = ", ".join(f"{t.name} {list(t.dims)}" for t in spec.inputs)
        raise _unusable(path, f"it has {len(cells)} columns for {wants}", "give a column for each number, or an .npz")
    return {first.name: _typed(path, np.stack(list(cells.values()), axis=1), first)}


def _typed(path: Path, cells: Array, tensor: TensorSpec) -> Array:
    if tensor.dtype.np.kind == "O":
        return cells.astype(object)
    try:
        return cells.astype(np.float64).astype(tensor.dtype.np)
    except ValueError as exc:
        raise _unusable(path, f"{tensor.name}: {exc}", "give numbers") from exc


def _numbers(cells: Array) -> Array:
    for kind in (np.int64, np.float64):
        try:
            return cells.astype(kind)
        except ValueError:
            continue
    return cells


def _unusable(where: object, why: str, fix: str) -> DataError:
    return DataError(f"{where} cannot be used as evaluation data", why=why, fix=fix)


def _plain(array: Array) -> Array:
    """Strings as numpy's own text type: arrays of objects could not be stored without pickle."""
    return array.astype(np.str_) if array.dtype.kind == "O" else array


def _object(array: Array) -> Array:
    return array.astype(object) if array.dtype.kind == "U" else array
