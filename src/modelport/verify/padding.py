"""Proof that inputs may be filled up: a row's answer is the same alone and filled up to the length of a longer one.

The embedded server joins requests of different sizes into one run where this holds. A model that looks at what was
filled up would give wrong answers without any error, so the claim is tested on the artefact, not believed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from modelport.convert.types import Arrays, Declaration, Runner, rows, take
from modelport.errors import VerificationError
from modelport.spec import VARIES, TensorSpec
from modelport.verify.compare import compare
from modelport.verify.tolerance import Tolerance

BEYOND = 3  # the longest row is filled up by so much, too


def prove(
    runner: Runner,
    declaration: Declaration,
    inputs: Arrays,
    outputs: tuple[TensorSpec, ...],
    tolerances: Mapping[str, Tolerance],
) -> float:
    """Cut the rows to different lengths, and compare each alone with all of them filled up in one batch.

    Args:
        runner: The artefact.
        declaration: Its `pad` is what is proved.
        inputs: Rows of full length.
        outputs: What the model gives; none may have a size that varies, for it would be another one when filled up.
        tolerances: By output; the same that the comparison with the source uses.

    Returns:
        The largest difference.

    Raises:
        VerificationError: An answer depends on what was filled up.
    """
    given = ", ".join(f"{name}={value}" for name, value in declaration.pad.items())
    varying = [tensor.name for tensor in outputs if VARIES in tensor.dims]
    if varying:
        raise _refused(declaration, given, f"the size of output {varying[0]!r} varies with that of the inputs")
    short = [_cut(declaration, take(inputs, [row]), row, rows(inputs)) for row in range(rows(inputs))]
    answers = [runner.run(row) for row in short]
    alone = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
    worst = 0.0
    for beyond in (0, BEYOND):
        results = compare(alone, runner.run(_filled(declaration, short, beyond)), tolerances, batched=True)
        bad = next((result for result in results.values() if not result.ok), None)
        if bad:
            raise _refused(
                declaration,
                given,
                f"rows of {bad.tensor!r} change by up to {bad.max_abs_error:.3g}, allowed is {bad.allowed:.3g}",
            )
        worst = max(worst, *(result.max_abs_error for result in results.values()))
    return worst


def _cut(declaration: Declaration, row: Arrays, number: int, count: int) -> Arrays:
    """The first row whole, each further one shorter along the axes that vary."""
    made = dict(row)
    for name, axes in declaration.dynamic_axes.items():
        for axis in axes:
            size = made[name].shape[axis]
            made[name] = made[name].take(range(max(1, size - size * number // count)), axis=axis)
    return made


def _filled(declaration: Declaration, short: list[Arrays], beyond: int) -> Arrays:
    """The rows as one batch, filled up to the longest of them and `beyond`."""
    made: Arrays = {}
    for name, first in short[0].items():
        arrays = [row[name] for row in short]
        shape = list(first.shape)
        for axis in declaration.dynamic_axes.get(name, {}):
            shape[axis] = max(array.shape[axis] for array in arrays) + beyond
        filled = np.full((len(short), *shape[1:]), declaration.pad.get(name, 0), dtype=first.dtype)
        for row, array in enumerate(arrays):
            place = (row, *map(slice, array.shape[1:]))
            filled[place] = array[0]
        made[name] = filled
    return made


def _refused(declaration: Declaration, given: str, why: str) -> VerificationError:
    return VerificationError(
        f"inputs of {declaration.name!r} cannot be filled up with {given}",
        why=why,
        fix="name the value that the model itself ignores at the end of its inputs, or export without --pad",
        model=declaration.name,
    )
