"""Evidence for a copied-in version: what it brings is replayed; where it brings none, it is made.

A version that comes without a trained model has nothing to be compared with but itself: its model file is run here in
two ways, without the runtime's optimisations and as it is served, and the first gives the golden answers. What is
proved later is that a server answers like that. The evidence says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from modelport.convert.hostile import archives
from modelport.convert.inputs import BATCH, InputDeclaration, first_rows, made_up, more_rows
from modelport.convert.open_source import Request, open_source
from modelport.convert.types import Array, Arrays, Declaration, Source
from modelport.errors import BatchAxisError, ManifestError
from modelport.lifecycle.adopt.artefact import Artefact, check_outputs
from modelport.repository import config as configs
from modelport.repository.versions import serving_version
from modelport.spec import VARIES, ModelSpec, TensorSpec, dtype_of
from modelport.verify import evidence as evidences
from modelport.verify.batch_axis import prove
from modelport.verify.evidence import EVIDENCE_FILE, GOLDEN_FILE, Evidence, Golden
from modelport.verify.prove import PROOF_ROWS, describe, examine
from modelport.verify.replay import replay

ITSELF = "the artefact itself, in process; no source model was given"
ROWS = "rows"
MAX_EVIDENCE_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What was proved about a version.

    Attributes:
        spec: Its tensors, in the model file's order.
        evidence: With the comparisons.
        golden: Inputs and answers.
        brought: Whether the folder brought them; else they are to be written.
        how: Where the golden inputs are from, in words.
        note: Why it has no batch axis, where one was looked for; empty otherwise.
    """

    spec: ModelSpec
    evidence: Evidence
    golden: Golden
    brought: bool
    how: str
    note: str = ""


def brings_evidence(folder: Path) -> bool:
    """Whether a version folder has evidence of its own."""
    return (folder / EVIDENCE_FILE).is_file() and (folder / GOLDEN_FILE).is_file()


def read(folder: Path, spec: ModelSpec) -> tuple[Evidence, Golden]:
    """The evidence that a version brings.

    Raises:
        ManifestError: It cannot be read, or is of other tensors.
        UnsafeSourceError: It is a zip bomb.
    """
    size = (folder / EVIDENCE_FILE).stat().st_size
    if size > MAX_EVIDENCE_BYTES:
        raise _no_evidence(folder, f"{EVIDENCE_FILE} has {size} bytes")
    archives.check_zip(folder / GOLDEN_FILE)
    evidence, golden = evidences.read(folder)
    wrong = _misfits(spec.inputs, golden.inputs, spec.batched) + _misfits(spec.outputs, golden.outputs, spec.batched)
    if evidence.batched != spec.batched:
        wrong.append(f"it is {'with' if evidence.batched else 'without'} a batch axis")
    limits = {name: tolerance.max_abs for name, tolerance in evidence.tolerances.items()}
    odd = [t.name for t in spec.outputs if not np.isfinite(limits.get(t.name, np.nan))]
    wrong += [f"there is no tolerance for {name!r}" for name in odd]
    if wrong:
        raise _no_evidence(folder, "; ".join(wrong))
    return evidence, golden


def replayed(artefact: Artefact, spec: ModelSpec) -> Proof:
    """Replay the evidence that a version brings, and prove its batch axis.

    Raises:
        ManifestError: The evidence cannot be read, or is of other tensors.
        VerificationError: The model file does not answer as its evidence says.
        BatchAxisError: Its rows depend on their neighbours.
    """
    evidence, golden = read(artefact.path.parent, spec)
    runner = artefact.runner(tuple(tensor.name for tensor in spec.outputs))
    comparisons = replay(runner.run, evidence, golden, model=spec.name, where=f"{artefact.path.name} in process")
    if spec.batched:
        again = prove(runner, first_rows(more_rows(golden.inputs, PROOF_ROWS), PROOF_ROWS), evidence.tolerances)
        if not again.proved:
            raise BatchAxisError(
                f"axis 0 of {spec.name!r} is no batch axis",
                why=again.reason,
                fix="let rows not depend on each other, or drop it as another model, without a batch axis",
                model=spec.name,
                max_abs_error=again.max_abs_error,
            )
    evidence = replace(evidence, comparisons=comparisons)
    return Proof(spec=spec, evidence=evidence, golden=golden, brought=True, how="those that it brought")


def made(artefact: Artefact, spec: ModelSpec, repository: Path) -> Proof:
    """Make evidence: the model file's own answers to the serving version's golden inputs, or to made-up ones.

    Raises:
        RepositoryError: The model gives other tensors than the configuration says.
        SourceError: It does not run on such inputs.
        VerificationError: It answers differently each time, or differently in ONNX Runtime's two ways to run it.
        BatchAxisError: Its rows depend on their neighbours.
    """
    given, how = _examples(artefact, spec, repository)
    declaration = artefact.declaration(spec, given)
    found = _examined(artefact, artefact.source(declaration), declaration, how)
    check_outputs(artefact, spec, found.spec.outputs)
    return replace(found, spec=spec)


def derived(artefact: Artefact, name: str) -> Proof:
    """Make evidence, and find out the tensors, for an ONNX graph that comes without any configuration.

    Raises:
        SourceError, VerificationError: As `made`.
    """
    how = "random numbers of the types and sizes that the graph states"
    source, declaration = open_source(artefact.path, Request(name=name))
    try:
        return _examined(artefact, source, declaration, how)
    except BatchAxisError as exc:
        if not declaration.batched:
            raise
        free = {n: {**declaration.dynamic_axes.get(n, {}), 0: ROWS} for n in declaration.example_inputs}
        bare = replace(declaration, batched=False, dynamic_axes=free)
        return _examined(artefact, source, bare, how, note=f"no batch axis: {exc.why}")


def _examined(artefact: Artefact, source: Source, declaration: Declaration, how: str, *, note: str = "") -> Proof:
    reference = describe(source, declaration)
    runner = artefact.runner(tuple(tensor.name for tensor in reference.outputs))
    where, words = f"{artefact.path.name} in process", "; ".join(filter(None, (f"golden inputs: {how}", note)))
    evidence, golden = examine(source, declaration, reference, runner, where=where, note=words)
    spec = ModelSpec(
        name=declaration.name,
        inputs=reference.inputs,
        outputs=reference.outputs,
        max_batch_size=configs.DEFAULT_MAX_BATCH_SIZE if declaration.batched else 0,
    )
    evidence = replace(evidence, reference=ITSELF)
    return Proof(spec=spec, evidence=evidence, golden=golden, brought=False, how=how, note=note)


def _examples(artefact: Artefact, spec: ModelSpec, repository: Path) -> tuple[Arrays, str]:
    """Golden inputs, and in words where they are from."""
    serving = serving_version(repository, spec.name)
    if serving is not None and brings_evidence(repository / spec.name / str(serving)):
        proven, golden = evidences.read(repository / spec.name / str(serving))
        if proven.batched == spec.batched and not _misfits(spec.inputs, golden.inputs, spec.batched):
            return golden.inputs, f"those of version {serving}"
    declared = [_declared(artefact, spec, tensor) for tensor in spec.inputs]
    return made_up(declared), "random numbers of the types and sizes that the configuration says"


def _declared(artefact: Artefact, spec: ModelSpec, tensor: TensorSpec) -> InputDeclaration:
    skip = 1 if spec.batched else 0
    sizes: list[int | str] = [
        artefact.label(tensor.name, axis + skip).replace(BATCH, ROWS) if size == VARIES else size
        for axis, size in enumerate(tensor.dims)
    ]
    return InputDeclaration(
        name=tensor.name, dtype=tensor.dtype, sizes=tuple([BATCH, *sizes] if spec.batched else sizes)
    )


def _misfits(tensors: Sequence[TensorSpec], arrays: dict[str, Array], batched: bool) -> list[str]:
    if {tensor.name for tensor in tensors} != set(arrays):
        return [f"expected are arrays for {sorted(t.name for t in tensors)}; it has {sorted(arrays)}"]
    found = []
    for tensor in tensors:
        array = arrays[tensor.name]
        shape = array.shape[1:] if batched else array.shape
        fits = tensor.accepts(shape) and (not batched or (array.ndim > 0 and array.shape[0] > 0))
        if not fits or array.dtype.kind not in "biufO" or dtype_of(array) != tensor.dtype:
            found.append(f"expected is {tensor}; it has {array.dtype}{list(array.shape)}")
    return found


def _no_evidence(folder: Path, why: str) -> ManifestError:
    return ManifestError(
        f"the evidence in {folder.parent.name}/{folder.name} is not this model's",
        why=why,
        fix=f"leave {EVIDENCE_FILE} and {GOLDEN_FILE} out, so that they are made, or copy the right ones",
        path=str(folder / EVIDENCE_FILE),
    )
