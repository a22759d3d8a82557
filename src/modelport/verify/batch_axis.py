"""Proof that axis 0 is a batch axis: a row's answer does not depend on what else is in the batch.

Triton's dynamic batcher puts rows of different callers into one run. A model that mixes rows would give
wrong answers without any error, so the claim is tested on the source and on the artefact, not believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modelport.convert.inputs import different_rows
from modelport.convert.types import Array, Arrays, Runner, Source, rows, take
from modelport.errors import ModelportError
from modelport.verify.compare import compare
from modelport.verify.tolerance import Tolerance

SIZES = (1, 2, 3)


@dataclass(frozen=True, kw_only=True)
class BatchProof:
    """The outcome of the proof.

    Attributes:
        proved: Whether every row of every batch equals its single answer.
        reason: What broke the proof; empty when it holds.
        sizes: The batch sizes that were run.
        max_abs_error: Largest difference between a row's answer in a batch and alone, over all outputs.
    """

    proved: bool
    reason: str = ""
    sizes: tuple[int, ...] = ()
    max_abs_error: float = 0.0


def prove(runner: Runner, inputs: Mapping[str, Array], tolerances: Mapping[str, Tolerance]) -> BatchProof:
    """Run batches of 1, 2, 3 and all rows, in order and permuted, and compare each row with its single answer.

    Args:
        runner: The artefact.
        inputs: At least 4 rows; with rows that are all alike nothing can be proved.
        tolerances: By output; the same that the comparison with the source uses.
    """
    count = rows(inputs)
    if len(different_rows(inputs, 2)) < 2:
        return BatchProof(proved=False, reason="the sample rows are all alike, which proves nothing; give others")
    single: list[Arrays] = []
    try:
        for row in range(count):
            single.append(runner.run(take(inputs, [row])))
    except ModelportError as exc:
        return BatchProof(proved=False, reason=f"it does not run on one row: {exc.what}", sizes=(1,))
    problem = _rows_given(single[0], 1)
    if problem:
        return BatchProof(proved=False, reason=problem, sizes=(1,))
    worst = 0.0
    for order in _orders(count):
        alone = {name: np.concatenate([single[row][name] for row in order]) for name in single[0]}
        problem, error = difference(runner, inputs, order, alone, tolerances)
        worst = max(worst, error)
        if problem:
            return BatchProof(proved=False, reason=problem, sizes=SIZES, max_abs_error=worst)
    return BatchProof(proved=True, sizes=(*SIZES, count), max_abs_error=worst)


def difference(
    runner: Runner | Source,
    inputs: Mapping[str, Array],
    order: Sequence[int],
    wanted: Mapping[str, Array],
    tolerances: Mapping[str, Tolerance],
) -> tuple[str, float]:
    """Run some rows together, in this order, and compare with what each is to give.

    Returns:
        What is wrong, empty when nothing is, and the largest error.
    """
    try:
        together = runner.run(take(inputs, order))
        problem = _rows_given(together, len(order))
        if problem:
            return problem, 0.0
        results = compare(wanted, together, tolerances, batched=True)
    except ModelportError as exc:
        return f"a batch of {len(order)} fails: {exc.what}", 0.0
    bad = next((c for c in results.values() if not c.ok), None)
    problem = (
        f"rows of {bad.tensor!r} change with their neighbours: {bad.max_abs_error:.3g} in a batch of {len(order)}, "
        f"allowed is {bad.allowed:.3g}"
        if bad
        else ""
    )
    return problem, max(c.max_abs_error for c in results.values())


def _orders(count: int) -> list[list[int]]:
    everything = list(range(count))
    return [everything[:2], everything[1:4], [2, 0, 1], everything, everything[::-1]]


def _rows_given(answers: Mapping[str, Array], wanted: int) -> str:
    for name, answer in answers.items():
        if answer.ndim == 0 or answer.shape[0] != wanted:
            return f"output {name!r} has shape {answer.shape} for {wanted} rows"
    return ""
