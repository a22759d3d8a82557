"""Ask a served model for all rows of labelled data."""

from __future__ import annotations

import numpy as np

from modelport.client import Client
from modelport.errors import DataError
from modelport.evaluate.data import EvaluationData
from modelport.evaluate.forms import Array

BATCH_ROWS = 32


def answers(
    client: Client, model: str, version: int | str | None, data: EvaluationData, *, largest: int
) -> dict[str, Array]:
    """What a served model answers to each row; requests hold up to 32 rows, one after the other.

    Args:
        client: Connected to the server.
        model: The name under which the server knows it.
        version: Its version, or an alias; None for the one that serves.
        data: The rows.
        largest: The most rows that the model takes in a request; 0 where it has no batch axis.

    Returns:
        Output name to array [rows, ...], in the model's order.

    Raises:
        DataError: The data has other inputs than the model.
        RequestError: A type or a shape does not fit the model.
        ClientError: The server gave no answer.
    """
    spec = client.spec(model, version)
    wanted, there = {tensor.name for tensor in spec.inputs}, {*data.inputs}
    if wanted != there:
        raise DataError(
            f"{data.name} does not fit the model {spec.name!r}",
            why=f"it has {', '.join(sorted(there))}; the model's inputs are {', '.join(sorted(wanted))}",
            fix="name the arrays as the inputs are named; labels are `labels`, groups of rows `slice_<name>`",
        )
    rows_at_once = min(BATCH_ROWS, largest) or 1
    parts = [
        client.infer(model, version=version, inputs=request(data, slice(start, start + rows_at_once), largest > 0))
        for start in range(0, data.rows, rows_at_once)
    ]
    together = np.concatenate if largest else np.stack
    names = [tensor.name for tensor in spec.outputs]  # a server may answer in another order, as for ensembles
    return {name: together([part[name] for part in parts]) for name in names}


def request(data: EvaluationData, index: slice, batched: bool = True) -> dict[str, Array]:
    """These rows; where the inputs are padded, only as long as the longest of them; without a batch axis, the row."""
    rows = {name: array[index] for name, array in data.inputs.items()}
    if data.padded:
        rows = {name: array[:, : _longest(array)] for name, array in rows.items()}
    return rows if batched else {name: array[0] for name, array in rows.items()}


def _longest(array: Array) -> int:
    used = np.flatnonzero((array != 0).any(axis=0))
    return int(used[-1]) + 1 if used.size else 1
