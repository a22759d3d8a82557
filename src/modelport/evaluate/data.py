"""Labelled data: rows that go to a model, what is right for each, and what groups they belong to.

A file is `.npz` with the inputs by tensor name, `labels`, and columns `slice_<name>`; or `.csv` with a header and the
same columns, for models whose inputs are numbers or texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from modelport.convert.samples import UNREADABLE, read_foreign_npz
from modelport.evaluate import table
from modelport.evaluate.forms import Array
from modelport.evaluate.table import LABELS, SLICE, unusable
from modelport.spec import ModelSpec

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
        columns: Which columns of a table went where, where their order said that and not their names; else empty.
    """

    name: str
    inputs: Mapping[str, Array]
    labels: Array
    slices: Mapping[str, Array] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    padded: bool = False
    columns: str = ""

    def __post_init__(self) -> None:
        lengths = {name: len(array) if array.ndim else 0 for name, array in self._arrays().items()}
        if not self.inputs or not len(self.labels) or {*lengths.values()} != {len(self.labels)}:
            raise unusable(
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
        return EvaluationData(name=path.name, **vars(table.read(path, spec)))
    if path.suffix != ".npz":
        raise unusable(path, f"its name does not end with .npz or .csv; {_FORMS}", "write such a file with numpy.savez")
    try:
        arrays = dict(read_foreign_npz(path))
    except UNREADABLE as exc:
        raise unusable(
            path, f"{type(exc).__name__}: {exc}", "name a file that numpy.savez wrote, without objects"
        ) from exc
    if LABELS not in arrays:
        raise unusable(path, f"it has no array {LABELS!r}; it has {', '.join(arrays)}", _FORMS)
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


def _plain(array: Array) -> Array:
    """Strings as numpy's own text type: arrays of objects could not be stored without pickle."""
    return array.astype(np.str_) if array.dtype.kind == "O" else array


def _object(array: Array) -> Array:
    return array.astype(object) if array.dtype.kind == "U" else array
