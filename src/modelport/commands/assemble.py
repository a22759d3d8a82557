"""Publish what is not converted: Triton python models, and ensembles of models in the same repository.

There is no artefact to compare in this process, so the caller gives the answers that the whole must give;
they become the evidence that `modelport verify --url` replays through the running server.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from modelport.commands.export import Exported, finish_version
from modelport.convert.inputs import with_texts
from modelport.convert.types import Array, rows
from modelport.errors import InvalidNameError, UsageError
from modelport.lifecycle.adopt.files import BYTECODE
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository.card import CARD_FILE, Card
from modelport.repository.config import EnsembleStep
from modelport.repository.layout import DEFAULT_REPOSITORY
from modelport.repository.publish import publish, staged
from modelport.spec import ModelSpec, check_model_name, dtype_of
from modelport.verify import evidence as evidences
from modelport.verify.compare import require_finite
from modelport.verify.evidence import Evidence, Golden
from modelport.verify.prove import GOLDEN_ROWS
from modelport.verify.tolerance import derive

PYTHON_FILE = "model.py"
STUB = "triton_python_backend_stub"
OWN_FILES = (
    BYTECODE,
    configs.CONFIG_FILE,
    manifests.MANIFEST_FILE,
    evidences.EVIDENCE_FILE,
    evidences.GOLDEN_FILE,
    CARD_FILE,
)


def publish_python_model(
    spec: ModelSpec,
    files: Sequence[str | os.PathLike[str]],
    *,
    example_inputs: Mapping[str, Array],
    answers: Mapping[str, Array],
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    instance_count: int | None = None,
    parameters: Mapping[str, str] | None = None,
    card: Card | None = None,
    facts: Mapping[str, str] | None = None,
) -> Exported:
    """Publish a model for Triton's `python` backend.

    Args:
        spec: Name, tensors, largest batch.
        files: `model.py` and what it reads; they go into the version folder.
        example_inputs: Golden inputs, with the batch axis where the spec has one.
        answers: What the model must answer to them, by output name.
        repository: Folder of the model repository.
        instance_count: Copies of the model, each a process of its own; left out, 1 for a new model, else as it is.
        parameters: For the model's `initialize`.
        card: Source, data, licence.
        facts: What the manifest shall remember.

    Raises:
        UsageError: There is no `model.py` among the files, one cannot be read or has a name that is taken, or the
            examples are not those of the spec.
        InvalidNameError: Triton would run one of the files.
        RepositoryError: The repository cannot be written.
    """
    paths = [Path(file) for file in files]
    _check_files(spec.name, paths)
    config = configs.build(
        spec,
        backend="python",
        filename=PYTHON_FILE,
        versions=[],
        instance_count=instance_count or 1,
        parameters=parameters,
    )

    def fill(folder: Path) -> None:
        for path in paths:
            shutil.copyfile(path, folder / path.name)
        (folder / BYTECODE).touch()  # a file: the stub would make a folder of this name, and a version does not change

    asked = () if instance_count is None else ("instance_group",)
    return _publish(
        spec, config, "python", fill, example_inputs, answers, None, Path(repository), card, facts, asked=asked
    )


def publish_ensemble(
    spec: ModelSpec,
    steps: Sequence[EnsembleStep],
    *,
    example_inputs: Mapping[str, Array],
    answers: Mapping[str, Array],
    double_answers: Mapping[str, Array] | None = None,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    card: Card | None = None,
    facts: Mapping[str, str] | None = None,
) -> Exported:
    """Publish an ensemble: Triton passes tensors from model to model, the caller sees one model.

    Args:
        spec: Name, tensors, largest batch of the whole.
        steps: The models and how their tensors are joined.
        example_inputs: Golden inputs.
        answers: What the source pipeline answers to them.
        double_answers: The same computed in float64; without it the tolerance is a fixed one.
        repository: Folder of the model repository.
        card: Source, data, licence.
        facts: What the manifest shall remember.

    Raises:
        UsageError: The examples are not those of the spec.
        RepositoryError: The repository cannot be written.
    """
    config = configs.build_ensemble(spec, steps, versions=[])
    return _publish(
        spec, config, "ensemble", lambda _: None, example_inputs, answers, double_answers, Path(repository), card, facts
    )


def _publish(
    spec: ModelSpec,
    config: configs.ModelConfig,
    kind: str,
    fill: Callable[[Path], None],
    example_inputs: Mapping[str, Array],
    answers: Mapping[str, Array],
    double_answers: Mapping[str, Array] | None,
    repository: Path,
    card: Card | None,
    facts: Mapping[str, str] | None,
    *,
    asked: Sequence[str] = (),
) -> Exported:
    check_model_name(spec.name)
    example_inputs, answers = with_texts(example_inputs), with_texts(answers)
    _check_examples(spec, example_inputs, answers)
    require_finite(answers, model=spec.name, where="the given answers")
    cut = slice(0, GOLDEN_ROWS) if spec.batched else slice(None)
    golden = Golden(
        inputs={name: array[cut] for name, array in example_inputs.items()},
        outputs={name: array[cut] for name, array in answers.items()},
    )
    proof = Evidence(
        reference=f"given ({kind})",
        batched=spec.batched,
        samples=rows(golden.inputs) if spec.batched else 1,
        tolerances=derive(answers, double_answers),
        comparisons={},
    )
    with staged(repository, spec.name) as staging:
        fill(staging)
        evidences.write(staging, proof, golden)
        published = publish(
            repository,
            staging,
            config,
            finish=lambda folder, version: finish_version(
                folder,
                spec=spec,
                version=version,
                format=kind,
                backend=kind,
                framework=kind,
                evidence=proof,
                card=card or Card(title=spec.name, description=f"A Triton {kind} model."),
                facts=facts or {},
                asked=tuple(asked),
            ),
            asked=asked,
        )
    return Exported(
        model=spec.name,
        version=published.version,
        folder=published.folder,
        serving=published.serving,
        spec=spec,
        evidence=proof,
    )


def _check_files(name: str, paths: Sequence[Path]) -> None:
    names = [path.name for path in paths]
    if STUB in names:
        raise InvalidNameError(
            f"the file {STUB} may not be in a model's folder",
            why="Triton would execute it instead of its own program",
            fix="rename the file",
            name=STUB,
        )
    wrong = [f"{path} is no file that can be read" for path in paths if not os.access(path, os.R_OK) or path.is_dir()]
    wrong += [f"{word} is a name of modelport's own" for word in names if word in OWN_FILES]
    wrong += [f"{word} comes twice" for word in sorted(set(names)) if names.count(word) > 1]
    wrong += [] if PYTHON_FILE in names else [f"there is no {PYTHON_FILE}, which Triton's python backend runs"]
    if wrong:
        raise UsageError(
            f"the files of {name!r} cannot be published: {'; '.join(wrong)}",
            why=f"the files are {', '.join(map(str, paths)) or 'none'}; they go into one folder",
            fix=f"give {PYTHON_FILE} and what it reads, each once and under a name of its own",
        )


def _check_examples(spec: ModelSpec, inputs: Mapping[str, Array], answers: Mapping[str, Array]) -> None:
    wrong: list[str] = []
    for group, given in ((spec.inputs, inputs), (spec.outputs, answers)):
        if {t.name for t in group} != set(given):
            wrong.append(f"tensors {sorted(given)} were given, the spec has {sorted(t.name for t in group)}")
            continue
        for tensor in group:
            array = given[tensor.name]
            fits = bool(array.ndim) and tensor.accepts(array.shape[1:]) if spec.batched else tensor.accepts(array.shape)
            if not fits or dtype_of(array) != tensor.dtype:
                wrong.append(f"{tensor.name!r} is {array.dtype}{list(array.shape)}, the spec says {tensor}")
    counts = {array.shape[:1] for array in [*inputs.values(), *answers.values()]}
    if spec.batched and len(counts) > 1:
        wrong.append("they have different numbers of rows")
    if wrong:
        raise UsageError(
            f"the examples of {spec.name!r} are not those of its spec: {'; '.join(wrong)}",
            why="evidence must have the tensors that callers will send and get",
            fix="give one array for each input and output, with the batch axis where the spec has one",
        )
