"""The labelled data that a command is to use: a file, what a recipe gives, or what is kept for the model's gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from modelport.errors import DataError, UsageError
from modelport.evaluate import data as rows
from modelport.evaluate import gate_data
from modelport.evaluate.data import EvaluationData
from modelport.evaluate.forms import TEXTS
from modelport.recipes import stored
from modelport.recipes.find import find_recipes, importable
from modelport.recipes.recipe import Evaluation, Options
from modelport.repository import labels, switch
from modelport.repository.layout import version_numbers
from modelport.spec import ModelSpec

RECIPE = "recipe"
MOST_NAMES = 20  # of labels, in a message


def find(
    wanted: str | None,
    repository: Path,
    model: str,
    spec: ModelSpec | None = None,
    *,
    version: int | None = None,
    output: str | None = None,
) -> EvaluationData:
    """The data that was asked for.

    Args:
        wanted: An `.npz` or `.csv` file; a recipe's `.py` file, which is asked for its `evaluation_data()`; `recipe`:
            what was kept when a recipe built the model; None for that of the model's gates, with their metrics first,
            or else of its recipe.
        repository: The model repository.
        model: Model name.
        spec: Its tensors; a `.csv` needs them.
        version: The version that is scored: texts that are right become class numbers by its label file.
        output: The output that is scored; None for the first.

    Raises:
        DataError: There is none, or it is damaged, or what is right is none of the output's labels.
        UsageError: The file is no recipe.
    """
    found = _found(wanted, repository, model, spec)
    if spec is None or version is None:
        return found
    scored = output or spec.outputs[0].name
    texts = any(tensor.name == scored and tensor.dtype.np.kind == "O" for tensor in spec.outputs)
    return found if texts else numbered(found, labels.names(repository, model, version, scored), scored)


def numbered(found: EvaluationData, known: Sequence[str], output: str) -> EvaluationData:
    """The data with class numbers in place of the classes' names; as it is where these are numbers, or nobody knows.

    Raises:
        DataError: A text is none of the names.
    """
    if found.labels.dtype.kind not in TEXTS or found.labels.ndim != 1 or not known:
        return found
    numbers = {name: number for number, name in enumerate(known)}
    said = found.labels.astype(str).tolist()
    other = next((row for row, name in enumerate(said) if name not in numbers), None)
    if other is not None:
        shown = ", ".join(known[:MOST_NAMES]) + (f" and {len(known) - MOST_NAMES} more" if known[MOST_NAMES:] else "")
        raise DataError(
            f"{found.name} cannot be used as evaluation data",
            why=f"{said[other]!r} (row {other + 1}) is none of the labels of the output {output!r}: {shown}",
            fix="write them as the model's label file does, or as class numbers, the first being 0",
        )
    return replace(found, labels=np.array([numbers[name] for name in said], dtype=np.int64))


def _found(wanted: str | None, repository: Path, model: str, spec: ModelSpec | None) -> EvaluationData:
    if wanted is None and gate_data.exists(repository, model):
        found = gate_data.read(repository, model)
        ruled = (gate.metric for gate in switch.read(repository, model)[1].gates)
        return replace(found, metrics=tuple(dict.fromkeys((*ruled, *found.metrics))))
    if wanted in (None, RECIPE):
        return _kept_by_recipe(repository, model)
    path = Path(wanted or "")
    return _of_recipe(path, model) if path.suffix == ".py" else rows.read(path, spec)


def name_of(model: str) -> str:
    """What the data is called that a recipe kept."""
    return f"recipe of {model}"


def of_evaluation(name: str, evaluation: Evaluation) -> EvaluationData:
    """A recipe's evaluation as labelled data."""
    return EvaluationData(
        name=name,
        inputs=evaluation.inputs,
        labels=evaluation.truth,
        slices=evaluation.slices,
        metrics=evaluation.metrics,
        padded=evaluation.padded,
    )


def _kept_by_recipe(repository: Path, model: str) -> EvaluationData:
    for version in reversed(version_numbers(repository, model)):
        found = stored.load(repository, model, version)
        if found is not None:
            return EvaluationData(
                name=name_of(model),
                inputs=found.inputs,
                labels=found.truth,
                slices=found.slices,
                metrics=found.metrics,
                padded=found.padded,
            )
    raise DataError(
        f"there is no evaluation data for {model!r}",
        why="no recipe kept some when it built a version, and the model's gates have none",
        fix="give --data FILE: an .npz with the inputs by name and `labels`, or a recipe's .py file",
    )


def _of_recipe(path: Path, model: str) -> EvaluationData:
    recipe = find_recipes(path.parent, [path.stem]).get(path)
    if recipe is None or recipe.evaluation_data is None:
        raise UsageError(
            f"{path} gives no evaluation data",
            why="it defines no RECIPE" if recipe is None else "its RECIPE has no evaluation_data",
            fix="name a recipe that does, or an .npz file",
        )
    with importable(path.parent):
        found = recipe.evaluation_data(Options())
    if model not in found:
        raise UsageError(
            f"{path} has no evaluation data for {model!r}",
            why=f"it has some for {', '.join(found)}",
            fix="name its recipe",
        )
    return of_evaluation(f"{path.name} of {model}", found[model])
