"""Labelled data as a CSV file: a header, and a line for each row. What it lacks is said with what it has."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modelport.errors import DataError
from modelport.evaluate.forms import Array
from modelport.spec import ModelSpec, TensorSpec

LABELS, SLICE = "labels", "slice_"
_SEPARATORS = {";": "';'", "\t": "tabs"}
_SHOWN = 8  # columns, in a message


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a file holds.

    Attributes:
        inputs: Arrays by input name, rows along axis 0.
        labels: What is right, one row each: numbers, or texts.
        slices: Column to the group of each row.
        columns: Which columns went where, where their order said that and not their names; else empty.
    """

    inputs: Mapping[str, Array]
    labels: Array
    slices: Mapping[str, Array]
    columns: str


def read(path: Path, spec: ModelSpec) -> Table:
    """Read a file.

    Args:
        path: The file.
        spec: The model's tensors.

    Raises:
        DataError: It is missing or damaged, or its columns are not what the model takes.
    """
    header, lines = _lines(path)
    cells = dict(zip(header, np.array(lines).T, strict=True))
    labels = cells.pop(LABELS)
    slices = {name.removeprefix(SLICE): cells.pop(name) for name in list(cells) if name.startswith(SLICE)}
    inputs, columns = _inputs(path, cells, spec)
    return Table(inputs=inputs, labels=_numbers(labels), slices=slices, columns=columns)


def unusable(where: object, why: str, fix: str) -> DataError:
    """The error for a file that is no labelled data."""
    return DataError(f"{where} cannot be used as evaluation data", why=why, fix=fix)


def _lines(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header, and the cells of each row, as many as it has columns."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            numbered = [(reader.line_num, line) for line in reader if line]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise unusable(path, f"{type(exc).__name__}: {exc}", "give a CSV file with a header and a line a row") from exc
    if not numbered:
        raise unusable(path, "it is empty", "give a header and a line for each row")
    header, rows = numbered[0][1], numbered[1:]
    _require_columns(path, header)
    wrong = [(number, len(line)) for number, line in rows if len(line) != len(header)]
    if wrong:
        number, count = wrong[0]
        why = f"line {number} has another number of cells: {count}, the header has {len(header)}"
        raise unusable(path, why, "give each line as many cells as the header; quote texts with commas")
    if not rows:
        raise unusable(path, "it has a header and no rows", "give a line for each row")
    return header, [line for _, line in rows]


def _require_columns(path: Path, header: Sequence[str]) -> None:
    """Refuse a first line that is no header with a column of labels."""
    twice = sorted({name for name in header if header.count(name) > 1})
    if LABELS in header and not twice:
        return
    other = next((words for mark, words in _SEPARATORS.items() if len(header) == 1 and mark in header[0]), None)
    if other:
        why, fix = f"it looks separated by {other}: its first line is {header[0][:200]!r}", "separate cells by commas"
    elif any(map(_is_number, header)):
        why = f"it has no header: its first line is {_listed(header)}"
        fix = f"begin it with the columns' names; what is right is called {LABELS!r}"
    elif twice:
        why, fix = f"it has two columns {twice[0]!r}", "give each column a name of its own"
    else:
        why = f"it has no column {LABELS!r}; it has {_listed(header)}"
        near = next((name for name in header if name.strip().lower() in ("label", LABELS)), None)
        fix = f"give columns for the inputs, {LABELS!r}, and {SLICE}<name> for groups of rows"
        fix = f"write {LABELS!r} in place of {near!r}" if near else fix
    raise unusable(path, why, fix)


def _inputs(path: Path, cells: Mapping[str, Array], spec: ModelSpec) -> tuple[dict[str, Array], str]:
    """A column for each input; or, where there is one input, its numbers in the order of the columns."""
    tensors = {tensor.name: tensor for tensor in spec.inputs}
    if {*cells} == {*tensors}:
        return {name: _typed(path, cells[name][:, None], tensor) for name, tensor in tensors.items()}, ""
    (first, *others) = spec.inputs
    if others or list(first.dims) != [len(cells)]:
        wants = ", ".join(f"{t.name} {list(t.dims)}" for t in spec.inputs)
        why = f"it has {len(cells)} columns ({_listed([*cells])}) for {wants}"
        raise unusable(path, why, "give a column for each number, or an .npz")
    last = f" to {first.name}[{len(cells) - 1}]" if len(cells) > 1 else ""
    told = f"by their order, not their names: {_listed([*cells])} -> {first.name}[0]{last}"
    return {first.name: _typed(path, np.stack(list(cells.values()), axis=1), first)}, told


def _typed(path: Path, cells: Array, tensor: TensorSpec) -> Array:
    if tensor.dtype.np.kind == "O":
        return cells.astype(object)
    try:
        return cells.astype(np.float64).astype(tensor.dtype.np)
    except ValueError as exc:
        raise unusable(path, f"{tensor.name}: {exc}", "give numbers") from exc


def _numbers(cells: Array) -> Array:
    for kind in (np.int64, np.float64):
        try:
            return cells.astype(kind)
        except ValueError:
            continue
    return cells


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _listed(names: Sequence[str]) -> str:
    shown = names if len(names) <= _SHOWN else [*names[: _SHOWN - 2], "...", names[-1]]
    return ", ".join(shown)[:400]
