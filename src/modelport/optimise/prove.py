"""The evidence of an optimised version: the original's golden inputs and answers, with a tolerance that fits the kind.

The trained model's answers stay what every later replay compares with. How far an optimised model may be from them
cannot be derived from float64 any more: it is measured, on all samples, alone and in batches, and the tolerance is a
stated multiple of the largest error, with the reason.
"""

from __future__ import annotations

import numpy as np

from modelport.convert.inputs import first_rows, more_rows
from modelport.convert.types import Array, Arrays, Declaration, Runner, rows
from modelport.errors import BatchAxisError
from modelport.optimise.scoring import in_rows, one_by_one
from modelport.optimise.types import Made, Origin
from modelport.spec import VARIES
from modelport.verify import padding
from modelport.verify.batch_axis import BatchProof
from modelport.verify.batch_axis import prove as prove_batch
from modelport.verify.compare import compare, require_finite, require_ok
from modelport.verify.evidence import Evidence, Golden
from modelport.verify.prove import PROOF_ROWS
from modelport.verify.tolerance import MULTIPLE, Tolerance

TOGETHER = 8  # rows of the batches


def examine(origin: Origin, made: Made, runner: Runner, samples: Arrays, original: Arrays) -> tuple[Evidence, Golden]:
    """Derive the tolerance, compare with the trained model's answers, prove batch axis and padding anew.

    Args:
        origin: The version that was optimised.
        made: What the kind says.
        runner: The optimised artefact, loaded from its file.
        samples: Inputs beside the golden ones.
        original: The original's answers to them.

    Raises:
        VerificationError: An answer is missing, of another type, or no number.
        BatchAxisError: Rows change with their neighbours by more than the tolerance.
    """
    name, golden, batched = origin.manifest.spec.name, origin.golden, origin.evidence.batched
    proven = (in_rows(golden.inputs, batched=batched), in_rows(golden.outputs, batched=batched))
    groups = [proven, (samples, original)]
    tolerances = _tolerances(origin, made, runner, groups)
    answers = runner.run(golden.inputs)
    require_finite(answers, model=name, where="the optimised artefact")
    comparisons = compare(golden.outputs, answers, tolerances, batched=batched)
    require_ok(comparisons, model=name, where="the optimised artefact in process")
    rows_used = first_rows(more_rows(golden.inputs, PROOF_ROWS), PROOF_ROWS) if batched else golden.inputs
    proof = _batch_proof(name, runner, rows_used, tolerances) if batched else None
    padding_error = None
    declaration = declared(origin, rows_used)
    if declaration.pad:
        padding_error = padding.prove(runner, declaration, rows_used, origin.manifest.spec.outputs, tolerances)
    evidence = Evidence(
        reference=origin.evidence.reference,
        batched=batched,
        samples=origin.evidence.samples,
        tolerances=tolerances,
        comparisons=comparisons,
        batch_proof=proof,
        note=origin.evidence.note,
        padding_error=padding_error,
    )
    return evidence, golden


def _tolerances(
    origin: Origin, made: Made, runner: Runner, groups: list[tuple[Arrays, Arrays]]
) -> dict[str, Tolerance]:
    errors: dict[str, float] = {}
    count = 0
    for inputs, wanted in groups:
        count += rows(inputs)
        for size in (1, TOGETHER):
            got = one_by_one(runner, inputs, batched=origin.evidence.batched, size=size)
            for name, answer in wanted.items():
                errors[name] = max(errors.get(name, 0.0), _error(answer, got[name]))
    return {
        name: _tolerance(origin, made, name, max(_scale(wanted[name]) for _, wanted in groups), error, count)
        for name, error in errors.items()
    }


def _tolerance(origin: Origin, made: Made, name: str, largest: float, error: float, count: int) -> Tolerance:
    before = origin.evidence.tolerances[name]
    reason = f"{made.margin:g} x the largest difference seen on {count} samples ({error:.3g}): {made.reason}"
    if before.kind == "exact":
        share = min(1.0, max(before.mismatches, made.margin * error))
        return Tolerance(kind="exact", max_abs=0.0, mismatches=share, reason=reason)
    allowed = max(made.margin * error, before.max_abs, MULTIPLE * made.unit * largest)
    return Tolerance(kind="measured", max_abs=allowed, largest=largest, reason=reason)


def _error(wanted: Array, got: Array) -> float:
    """Largest difference; of whole numbers and texts the share of elements that differ."""
    if wanted.shape != got.shape or wanted.size == 0:
        return 0.0  # compared, and refused, by whoever comes next
    if wanted.dtype.kind != "f":
        return float(np.mean(wanted != got))
    both = np.isfinite(wanted) & np.isfinite(got)
    return float(np.abs(wanted[both].astype(np.float64) - got[both].astype(np.float64)).max(initial=0.0))


def _scale(array: Array) -> float:
    if array.dtype.kind != "f":
        return 0.0
    return float(np.abs(array[np.isfinite(array)].astype(np.float64)).max(initial=0.0))


def _batch_proof(name: str, runner: Runner, inputs: Arrays, tolerances: dict[str, Tolerance]) -> BatchProof:
    proof = prove_batch(runner, inputs, tolerances)
    if proof.proved:
        return proof
    raise BatchAxisError(
        f"rows of the optimised {name!r} depend on their neighbours",
        why=proof.reason,
        fix="use another kind: --to int8 has fixed scales, --to fp16 has none",
        model=name,
        max_abs_error=proof.max_abs_error,
    )


def declared(origin: Origin, inputs: Arrays) -> Declaration:
    """The version's tensors as its source would be declared, with these inputs as examples."""
    spec = origin.manifest.spec
    first = 1 if spec.batched else 0
    return Declaration(
        name=spec.name,
        example_inputs=inputs,
        output_names=tuple(tensor.name for tensor in spec.outputs),
        batched=spec.batched,
        dynamic_axes={
            t.name: {axis + first: f"{t.name}_{axis}" for axis, size in enumerate(t.dims) if size == VARIES}
            for t in spec.inputs
        },
        pad={t.name: t.pad for t in spec.inputs if t.pad is not None},
    )
