"""The verb `export`: open the model, run it, write the artefact, prove it, publish it."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelport import convert
from modelport.convert.open_source import Request, open_source
from modelport.convert.types import Array, Declaration, Source
from modelport.errors import BatchAxisError, SourceError, UsageError, VerificationError
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository.card import CARD_FILE, Card, render
from modelport.repository.layout import DEFAULT_REPOSITORY, check_path
from modelport.repository.publish import publish, staged
from modelport.spec import ModelSpec, check_model_name
from modelport.verify import evidence as evidences
from modelport.verify.evidence import Evidence
from modelport.verify.prove import Reference, describe, examine

MAX_BATCH_SIZE = 65_536
Report = Callable[[str], None]
ROWS_AXIS = "rows"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export made.

    Attributes:
        model: Model name.
        version: The new version.
        folder: Its folder in the repository.
        spec: Tensors and largest batch.
        serving: Whether it is the version that callers get: the first of its model, or promoted. Else a candidate.
        evidence: What was proved.
    """

    model: str
    version: int
    folder: Path
    serving: bool
    spec: ModelSpec
    evidence: Evidence


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """The options of an export that have nothing to do with the model's inputs."""

    repository: Path
    format: str
    max_batch_size: int | None
    labels: Sequence[str] | None
    instance_count: int | None
    parameters: Mapping[str, str]
    card: Card
    candidate: bool
    facts: Mapping[str, str] = field(default_factory=dict)
    report: Report


def export(
    model: Any,
    *,
    name: str,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    example_inputs: Mapping[str, Array] | None = None,
    inputs: Sequence[str] = (),
    output_names: Sequence[str] | None = None,
    dynamic_axes: Mapping[str, Mapping[int, str]] | None = None,
    pad: Mapping[str, float] | None = None,
    format: str | None = None,
    labels: Sequence[str] | None = None,
    max_batch_size: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    instance_count: int | None = None,
    parameters: Mapping[str, str] | None = None,
    card: Card | None = None,
    facts: Mapping[str, str] | None = None,
    candidate: bool = False,
    report: Report = lambda _: None,
) -> Exported:
    """Export a trained model into a Triton model repository, with proof that it answers as the source does.

    Args:
        model: A `torch.nn.Module`, a `keras.Model`, a path (`.keras`, `.h5`, `.onnx`, TorchScript `.pt`, `.pt2`),
            or `package.module:factory`.
        name: Model name.
        repository: Folder of the model repository.
        example_inputs: Arrays by tensor name in the order of the model's arguments, the samples along axis 0.
            Real samples make the better proof; the first 64 are used. Where the model states its inputs they may be
            left out.
        inputs: Declarations `NAME:DTYPE:batch,28,28,1` instead of, or beside, example inputs; a word for a size
            that varies.
        output_names: Names of the outputs in their order; the model's own names (or `output`) when left out.
        dynamic_axes: Axes beside the batch whose size varies: input name to {axis: name}.
        pad: Values that fill varying sizes up without changing an answer, such as {"tokens": 0}. That they do not
            is proved. Requests of different sizes are then answered in one run.
        format: `onnx` or `torchscript`; left out, the one that fits the source.
        labels: Class labels of the first output, in the order of its elements.
        max_batch_size: Largest batch. Left out, the batch axis is tested: 32 where it holds, else 0 with the reason
            in the manifest. A number above 0 makes it an error when it does not hold; 0 takes the arrays as
            they are, without a batch axis.
        weights: For a factory: safetensors or a state dict to load into what it returns. Left out, the factory is
            called twice, and refused where each call gives other weights: they would be random.
        instance_count: Copies of the model that answer side by side; left out, 1 for a new model, else as it is.
        parameters: Parameters of the Triton backend, such as {"intra_op_thread_count": "1"}.
        card: Source, data, licence and metrics, for the model card.
        facts: What the manifest shall remember beside all this.
        candidate: Let also the first version of a model be a candidate, which takes no traffic. Later ones are.
        report: Called with one line at each step.

    Returns:
        Name, version, folder, tensors and evidence.

    Raises:
        UsageError: Options that cannot be right.
        SourceError: One of its leaves: the model cannot be read, is unsafe, or cannot be converted.
        VerificationError: The artefact is not equal to the source; nothing was published.
        RepositoryError: The repository cannot be written.
    """
    _check_options(name, Path(repository), format, max_batch_size, instance_count)
    request = Request(
        name=name,
        example_inputs=dict(example_inputs) if example_inputs is not None else None,
        declared=convert.parse_declarations(inputs),
        output_names=tuple(output_names or ()),
        dynamic_axes=dynamic_axes or {},
        pad=pad or {},
        batched=max_batch_size != 0,
        weights=None if weights is None else Path(weights),
    )
    report("opening the model")
    source, declaration = open_source(model, request)
    plan = _Plan(
        repository=Path(repository),
        format=format or default_format(source),
        max_batch_size=max_batch_size,
        labels=labels,
        instance_count=instance_count,
        parameters=parameters or {},
        card=card or Card(title=name, description=f"Exported from {source.framework}."),
        facts=facts or {},
        candidate=candidate,
        report=report,
    )
    with staged(plan.repository, name) as staging:
        return _attempt(source, declaration, plan, staging)


def default_format(source: Source) -> str:
    """`torchscript` for a model that is TorchScript already, else `onnx`."""
    return "torchscript" if getattr(source, "script", None) is not None else "onnx"


def _attempt(source: Source, declaration: Declaration, plan: _Plan, staging: Path) -> Exported:
    """Export with the batch axis; where that does not hold and the caller left it open, without one."""
    if not declaration.batched and plan.max_batch_size != 0:
        return _without_batch(source, declaration, plan, staging)
    try:
        return _export(source, declaration, plan, staging)
    except BatchAxisError as exc:
        if not declaration.batched or plan.max_batch_size or declaration.pad:
            raise
        note = f"no batch axis: {exc.why}"
    plan.report(f"{note}; exporting without one (max_batch_size 0)")
    for path in staging.iterdir():
        path.unlink()
    free = {n: {**declaration.dynamic_axes.get(n, {}), 0: ROWS_AXIS} for n in declaration.example_inputs}
    unbatched = replace(declaration, batched=False, dynamic_axes=free)
    try:
        return _export(source, unbatched, plan, staging, note=note)
    except (SourceError, VerificationError) as exc:
        plan.report(f"axis 0 has a fixed size: {exc.what}")
    for path in staging.iterdir():
        path.unlink()
    return _export(source, replace(declaration, batched=False), plan, staging, note=note)


def _without_batch(source: Source, declaration: Declaration, plan: _Plan, staging: Path) -> Exported:
    """Export a model that states a fixed first size, of itself or in the --input options."""
    why = "its inputs are declared with a fixed first size"
    if plan.max_batch_size:
        raise BatchAxisError(
            f"axis 0 of {declaration.name!r} is no batch axis, and max_batch_size {plan.max_batch_size} was asked for",
            why=why,
            fix="make the first size free ('batch'), or leave --max-batch-size out",
            model=declaration.name,
        )
    return _export(source, declaration, plan, staging, note=f"no batch axis: {why}")


def _export(source: Source, declaration: Declaration, plan: _Plan, staging: Path, *, note: str = "") -> Exported:
    module = convert.format_module(plan.format)
    plan.report("running the source in its own precision and in float64")
    reference = describe(source, declaration)
    limit = plan.max_batch_size if plan.max_batch_size is not None else configs.DEFAULT_MAX_BATCH_SIZE
    spec = ModelSpec(
        name=declaration.name,
        inputs=reference.inputs,
        outputs=reference.outputs,
        max_batch_size=limit if declaration.batched else 0,
    )
    label_files = _label_files(spec, reference, plan)
    plan.report(f"writing {module.FILENAME}")
    module.write(source, declaration, staging)
    runner = module.load(staging, [t.name for t in reference.inputs], [t.name for t in reference.outputs])
    plan.report("comparing the artefact with the source, proving the batch axis")
    proof, golden = examine(source, declaration, reference, runner, where=f"{module.FILENAME} in process", note=note)
    evidences.write(staging, proof, golden)
    config = configs.build(
        spec,
        backend=module.BACKEND,
        filename=module.FILENAME,
        versions=[],
        label_files=label_files,
        instance_count=plan.instance_count or 1,
        parameters=plan.parameters,
    )
    plan.report("publishing")
    asked = _asked(max_batch_size=plan.max_batch_size, instance_group=plan.instance_count)
    published = publish(
        plan.repository,
        staging,
        config,
        finish=lambda folder, version: finish_version(
            folder,
            spec=spec,
            version=version,
            format=plan.format,
            backend=module.BACKEND,
            framework=source.framework,
            evidence=proof,
            card=plan.card,
            facts=plan.facts,
            note=note,
            asked=asked,
        ),
        labels=dict.fromkeys(label_files.values(), plan.labels or ()),
        asked=asked,
        candidate=plan.candidate,
        report=plan.report,
    )
    return Exported(
        model=published.model,
        version=published.version,
        folder=published.folder,
        serving=published.serving,
        spec=spec,
        evidence=proof,
    )


def _asked(**options: int | None) -> tuple[str, ...]:
    """The fields of the configuration for which a value was given."""
    return tuple(name for name, value in options.items() if value)


def finish_version(
    folder: Path,
    *,
    spec: ModelSpec,
    version: int,
    format: str,
    backend: str,
    framework: str,
    evidence: Evidence,
    card: Card,
    facts: Mapping[str, str],
    note: str = "",
    asked: tuple[str, ...] = (),
) -> None:
    """Write the card, then the manifest with the digests of everything, into a staged version folder."""
    manifest = manifests.Manifest(
        spec=spec,
        version=version,
        format=format,
        backend=backend,
        framework=framework,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        files=manifests.records(folder),
        makers=manifests.makers(),
        metrics=dict(card.metrics),
        facts=dict(facts),
        note=note,
        asked=asked,
    )
    tolerances = {
        f"largest error of {name}": f"{c.max_abs_error:.3g} (allowed {c.allowed:.3g}: {evidence.tolerances[name].how})"
        for name, c in evidence.comparisons.items()
    }
    shown = {"version": str(version), "framework": framework, "size": f"{manifest.size_bytes} bytes", **tolerances}
    (folder / CARD_FILE).write_text(render(card, spec, shown), encoding="utf-8")
    files = {**manifest.files, CARD_FILE: manifests.file_record(folder / CARD_FILE)}
    manifests.write(folder, replace(manifest, files=dict(sorted(files.items()))))


def _check_options(
    name: str, repository: Path, format: str | None, max_batch_size: int | None, instance_count: int | None
) -> None:
    check_model_name(name)
    check_path(repository)
    wrong = []
    if format is not None and format not in convert.FORMATS:
        wrong.append(f"there is no format {format!r}, only {' and '.join(convert.FORMATS)}")
    if max_batch_size is not None and not 0 <= max_batch_size <= MAX_BATCH_SIZE:
        wrong.append(f"max_batch_size {max_batch_size} is not from 0 to {MAX_BATCH_SIZE}")
    if instance_count is not None and instance_count < 1:
        wrong.append(f"instance_count {instance_count} is not 1 or more")
    if wrong:
        raise UsageError("; ".join(wrong), why="an option has a value it cannot have", fix="choose values in range")


def _label_files(spec: ModelSpec, reference: Reference, plan: _Plan) -> dict[str, str]:
    """The label file of the first output, when labels were given and there is one for every element."""
    if plan.labels is None:
        return {}
    odd = [label for label in plan.labels if not label.strip() or not label.isprintable()]
    if odd:
        raise UsageError(
            f"label {odd[0]!r} cannot be used",
            why="a label file has one label a line: none may be empty, or hold a line break or control characters",
            fix="correct the labels",
        )
    first = spec.outputs[0]
    answers = reference.answers[first.name]
    count = answers[0].size if spec.batched else answers.size
    if count != len(plan.labels):
        raise UsageError(
            f"{len(plan.labels)} labels were given for output {first.name!r}, which has {count} elements",
            why="every element of the output needs its label, in order",
            fix="give one label for each class; one line each in the --labels file",
        )
    broken = [label for label in plan.labels if len(label.splitlines()) > 1]
    if broken:
        raise UsageError(
            f"the label {broken[0]!r} has more than one line",
            why="a label file has one label a line",
            fix="take the line break out",
        )
    return {first.name: f"{re.sub('[^A-Za-z0-9_-]', '_', first.name)}_labels.txt"}
