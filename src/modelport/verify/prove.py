"""Make the evidence: run the source, derive tolerances, describe the tensors, and check the artefact.

The chain of an export: `describe` before the artefact is written, `examine` after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from modelport.convert.inputs import first_rows, more_rows, resized
from modelport.convert.types import Array, Arrays, Declaration, Runner, Source, rows, take
from modelport.errors import BatchAxisError, ConversionError, ExampleInputError, VerificationError
from modelport.spec import VARIES, TensorSpec, dtype_of
from modelport.verify import padding
from modelport.verify.batch_axis import BatchProof, difference, prove
from modelport.verify.compare import Comparison, compare, require_finite, require_ok
from modelport.verify.evidence import Evidence, Golden
from modelport.verify.tolerance import Tolerance, derive

PROOF_ROWS = 6
EXAMPLE_ROWS = 64
GOLDEN_ROWS = 8
GOLDEN_BYTES = 8 * 2**20
RESIZE_BY = (1, 3, -1)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the source says: tensors, answers, tolerances.

    Attributes:
        inputs: Input specs in the declared order.
        outputs: Output specs in the source's order.
        examples: `PROOF_ROWS` to `EXAMPLE_ROWS` rows where there is a batch axis, else the example as given.
        answers: The source's answers to `examples`.
        tolerances: Derived from them, by output.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    examples: Arrays
    answers: Arrays
    tolerances: dict[str, Tolerance]


def describe(source: Source, declaration: Declaration) -> Reference:
    """Run the source on the examples, row by row where there is a batch axis, and on other sizes of varying axes.

    Raises:
        NotFiniteError: The source answers NaN.
        VerificationError: The source does not answer the same twice.
        VerificationError: The source does not answer the same twice.
        BatchAxisError: An output has not one row for each input row, or rows depend on their neighbours.
        ExampleInputError: The source does not run on another size of a varying axis.
    """
    examples = declaration.example_inputs
    if declaration.batched:
        examples = more_rows(first_rows(examples, EXAMPLE_ROWS), PROOF_ROWS)
    answers = _run_on_rows(source, declaration, examples)
    require_finite(answers, model=declaration.name, where="the source itself")
    _require_repeatable(source, declaration, examples, answers)
    if declaration.batched:
        for name, answer in answers.items():
            if answer.ndim == 0 or answer.shape[0] != rows(examples):
                raise BatchAxisError(
                    f"axis 0 of {declaration.name!r} is no batch axis",
                    why=f"output {name!r} has shape {answer.shape} for {rows(examples)} rows",
                    fix="let every output have one row for each input row, or export with --max-batch-size 0",
                    model=declaration.name,
                    tensor=name,
                )
    tolerances = derive(answers, source.run_double(examples))
    if declaration.batched:
        _check_source_rows(source, declaration, examples, answers, tolerances)
    shapes = {name: [answer.shape] for name, answer in answers.items()}
    if any(declaration.dynamic_axes.values()):
        for name, answer in _run_longer(source, declaration, examples).items():
            shapes[name].append(answer.shape)
    skip = 1 if declaration.batched else 0
    return Reference(
        inputs=tuple(
            TensorSpec(
                name=n,
                dtype=dtype_of(a),
                dims=_input_dims(a, declaration.dynamic_axes.get(n, {}), skip),
                pad=declaration.pad.get(n),
            )
            for n, a in examples.items()
        ),
        outputs=tuple(
            TensorSpec(name=n, dtype=dtype_of(a), dims=_output_dims(shapes[n], n, declaration)[skip:])
            for n, a in answers.items()
        ),
        examples=examples,
        answers=answers,
        tolerances=tolerances,
    )


def examine(
    source: Source, declaration: Declaration, reference: Reference, runner: Runner, *, where: str, note: str = ""
) -> tuple[Evidence, Golden]:
    """Compare the artefact with the source, prove the batch axis, and give the evidence.

    Args:
        source: The model.
        declaration: As it was exported.
        reference: What `describe` gave for them.
        runner: The artefact, loaded from its file.
        where: What runs it, for messages.
        note: Kept in the evidence.

    Raises:
        VerificationError: The artefact's answers are not the source's, at any size of the varying axes.
        BatchAxisError: The batch axis was declared and rows depend on their neighbours.
        VerificationError: Answers depend on what inputs are filled up with.
    """
    name = declaration.name
    comparisons = compare(
        reference.answers, runner.run(reference.examples), reference.tolerances, batched=declaration.batched
    )
    require_ok(comparisons, model=name, where=where)
    if any(declaration.dynamic_axes.values()):
        comparisons = _worst(comparisons, _at_other_sizes(source, declaration, reference, runner, where))
    proof: BatchProof | None = None
    if declaration.batched:
        proof = prove(runner, first_rows(reference.examples, PROOF_ROWS), reference.tolerances)
        if not proof.proved:
            raise _no_batch_axis(declaration, proof.reason, proof.max_abs_error)
    padding_error = None
    if declaration.pad:
        rows_used = first_rows(reference.examples, PROOF_ROWS)
        padding_error = padding.prove(runner, declaration, rows_used, reference.outputs, reference.tolerances)
    golden = _golden(reference, declaration.batched)
    evidence = Evidence(
        reference=source.framework,
        batched=declaration.batched,
        samples=rows(golden.inputs) if declaration.batched else 1,
        tolerances=reference.tolerances,
        comparisons=comparisons,
        batch_proof=proof,
        note=note,
        padding_error=padding_error,
    )
    return evidence, golden


def _require_repeatable(source: Source, declaration: Declaration, examples: Arrays, answers: Arrays) -> None:
    """A model that answers the same question differently has no answer to compare with: refuse it."""
    again = source.run(examples)
    for name, answer in answers.items():
        limit = derive({name: answer}, {name: answer})[name]  # a few units in the last place: threads reorder sums
        same = (
            answer.shape == again[name].shape
            and compare({name: answer}, {name: again[name]}, {name: limit}, batched=False)[name].ok
        )
        if not same:
            raise VerificationError(
                f"{declaration.name!r} answers the same inputs differently each time (output {name!r})",
                why="its forward draws random numbers, keeps dropout active, or changes its own state",
                fix="make the model deterministic in inference mode (model.eval()), or take the noise as an input",
                model=declaration.name,
                tensor=name,
            )


def _run_on_rows(source: Source, declaration: Declaration, examples: Arrays) -> Arrays:
    """Run on more rows than were given; a model that ran on those and not on these has no batch axis."""
    try:
        return source.run(examples)
    except ExampleInputError as exc:
        if not declaration.batched:
            raise
        raise BatchAxisError(
            f"axis 0 of {declaration.name!r} is no batch axis",
            why=f"the model runs on the {rows(declaration.example_inputs)} given rows and not on {rows(examples)}, "
            f"made of them: {exc.why}",
            fix="write the model so that the number of rows is free, export with --max-batch-size 0, or give more "
            "samples if it is the made-up rows that do not fit",
            model=declaration.name,
        ) from exc


def _check_source_rows(
    source: Source, declaration: Declaration, examples: Arrays, answers: Arrays, tolerances: dict[str, Tolerance]
) -> None:
    """Ask the source itself for fewer rows and in another order; a trace may hide that it mixes them."""
    for order in ([0], [2, 0, 1]):
        problem, error = difference(source, examples, order, take(answers, order), tolerances)
        if problem:
            raise _no_batch_axis(declaration, problem, error)


def _no_batch_axis(declaration: Declaration, why: str, error: float) -> BatchAxisError:
    return BatchAxisError(
        f"axis 0 of {declaration.name!r} is no batch axis",
        why=why,
        fix="export with --max-batch-size 0, or change the model so that rows do not depend on each other",
        model=declaration.name,
        max_abs_error=error,
    )


def _run_longer(source: Source, declaration: Declaration, examples: Arrays) -> Arrays:
    try:
        return source.run(resized(declaration, examples, 1))
    except ExampleInputError as exc:
        axes = ", ".join(label for axes in declaration.dynamic_axes.values() for label in axes.values())
        raise ExampleInputError(
            f"the model {declaration.name!r} does not run when the axes that may vary ({axes}) are longer by 1",
            why=exc.why,
            fix="declare these sizes as numbers, or change the model so that they may have any size",
        ) from exc


def _at_other_sizes(
    source: Source, declaration: Declaration, reference: Reference, runner: Runner, where: str
) -> list[dict[str, Comparison]]:
    found: list[dict[str, Comparison]] = []
    for change in RESIZE_BY:
        inputs = resized(declaration, reference.examples, change)
        answers = source.run(inputs)
        tolerances = derive(answers, source.run_double(inputs))
        results = compare(answers, runner.run(inputs), tolerances, batched=declaration.batched)
        require_ok(results, model=declaration.name, where=f"{where}, varying axes changed by {change:+d}")
        found.append(results)
    return found


def _worst(first: dict[str, Comparison], others: list[dict[str, Comparison]]) -> dict[str, Comparison]:
    """The first comparison with the sample counts of all and the largest error in proportion to what is allowed."""
    merged = dict(first)
    for results in others:
        for name, result in results.items():
            have = merged[name]
            worse = max(have, result, key=lambda c: c.max_abs_error / c.allowed if c.allowed else c.max_abs_error)
            merged[name] = replace(worse, samples=have.samples + result.samples)
    return merged


def _input_dims(array: Array, axes: Iterable[int], skip: int) -> tuple[int, ...]:
    varying = set(axes)
    return tuple(VARIES if axis in varying else size for axis, size in enumerate(array.shape))[skip:]


def _output_dims(shapes: list[tuple[int, ...]], name: str, declaration: Declaration) -> tuple[int, ...]:
    if len({len(shape) for shape in shapes}) > 1:
        raise ConversionError(
            f"output {name!r} of {declaration.name!r} changes its number of axes: {shapes}",
            why="the model drops or adds an axis for some sizes (a squeeze without an axis does)",
            fix="keep the number of axes fixed; name the axis that squeeze removes",
            model=declaration.name,
        )
    return tuple(sizes[0] if len(set(sizes)) == 1 else VARIES for sizes in zip(*shapes, strict=True))


def _golden(reference: Reference, batched: bool) -> Golden:
    if not batched:
        return Golden(inputs=reference.examples, outputs=reference.answers)
    arrays = [*reference.examples.values(), *reference.answers.values()]
    row_bytes = sum(array.nbytes // max(1, array.shape[0]) for array in arrays)
    count = max(1, min(GOLDEN_ROWS, GOLDEN_BYTES // max(1, row_bytes)))
    return Golden(inputs=first_rows(reference.examples, count), outputs=first_rows(reference.answers, count))
