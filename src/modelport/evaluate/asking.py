"""Ask a served model for all rows of labelled data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
        DataError: The data has other inputs than the model, or rows of the first output differ in shape.
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
    starts = range(0, data.rows, rows_at_once)
    sent = (request(data.inputs, slice(start, start + rows_at_once), padded=data.padded) for start in starts)
    if not largest:
        sent = ({name: array[0] for name, array in one.items()} for one in sent)
    parts = [client.infer(model, version=version, inputs=one) for one in sent]
    names = [tensor.name for tensor in spec.outputs]  # a server may answer in another order, as for ensembles
    return _together(data, names, parts, batched=largest > 0)


def _together(
    data: EvaluationData, names: Sequence[str], parts: Sequence[Mapping[str, Array]], *, batched: bool
) -> dict[str, Array]:
    """The answers as one array for each output; those whose rows differ in shape are left out."""
    alike = [name for name in names if len({part[name].shape[int(batched) :] for part in parts}) == 1]
    if names[0] not in alike:
        raise DataError(
            f"the answers to {data.name} cannot be scored",
            why=f"the output {names[0]!r} has rows of different shapes, which no metric takes",
            fix="give rows of one length, or a model whose first output is of one shape",
        )
    return {name: (np.concatenate if batched else np.stack)([part[name] for part in parts]) for name in alike}


def request(inputs: Mapping[str, Array], index: slice, *, padded: bool) -> dict[str, Array]:
    """These rows of each input; where they are padded, only as long as the longest of them."""
    rows = {name: array[index] for name, array in inputs.items()}
    return {name: array[:, : _longest(array)] for name, array in rows.items()} if padded else rows


def _longest(array: Array) -> int:
    used = np.flatnonzero((array != 0).any(axis=0))
    return int(used[-1]) + 1 if used.size else 1
