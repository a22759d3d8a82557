"""What the kinds that train have in common: the recipe's training, a folder for progress, and the finished artefact."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from modelport.convert import format_onnx
from modelport.convert.source_torch import from_module
from modelport.convert.types import Array
from modelport.errors import UsageError, VerificationError
from modelport.optimise import unfinished
from modelport.optimise.origin import recipe_path
from modelport.optimise.prove import declared
from modelport.optimise.scoring import request
from modelport.optimise.types import Made, Task
from modelport.recipes.find import find_recipes, importable
from modelport.recipes.recipe import Options, Training, recipe_digest
from modelport.verify.prove import describe, examine


def training_of(task: Task) -> Training:
    """How the network of the version is trained, by its recipe.

    Raises:
        UsageError: No recipe is known, or it does not say how.
        DataError: Its data is out of reach.
    """
    name, path = task.origin.manifest.spec.name, recipe_path(task.origin, task.options)
    recipe = find_recipes(path.parent, [path.stem]).get(path)
    if recipe is None or recipe.training is None:
        raise UsageError(
            f"{path} does not say how its models are trained",
            why="it defines no RECIPE" if recipe is None else "its RECIPE has no `training`",
            fix="give it one (see docs/add-a-model.md), or use a kind that trains nothing: fp16, int8, int8-dynamic",
        )
    task.report(f"reading the training data of {path.name}")
    with importable(path.parent):
        known = recipe.training(Options(quick=task.options.quick, report=task.report))
    if name not in known:
        raise UsageError(
            f"{path} does not say how {name!r} is trained",
            why=f"it tells of {', '.join(known) or 'no model'}",
            fix="name the recipe that does: --recipe FILE",
        )
    found = known[name]
    if len(task.origin.manifest.spec.inputs) != 1:
        raise UsageError(
            f"{name!r} has {len(task.origin.manifest.spec.inputs)} inputs",
            why="networks with one input can be pruned and taught, no others",
            fix="use a kind that trains nothing: fp16, int8, int8-dynamic",
        )
    return found


@contextlib.contextmanager
def progress_folder(task: Task, kind: str, **settings: object) -> Iterator[Path]:
    """Where progress is kept: one folder for each version, recipe and way of training. It is made, and locked.

    Raises:
        RepositoryLockedError: Another process is training the same.
    """
    words = {**settings, "origin": task.origin.digest, "recipe": recipe_digest(recipe_path(task.origin, task.options))}
    words["rows"] = "quick" if task.options.quick else "all"
    folder = unfinished.folder(task.repository, task.origin.reference, kind, words)
    with unfinished.held(folder, f"{task.origin.reference} is being {kind}"):
        if any(path.name != unfinished.LOCK_FILE for path in folder.iterdir()):
            task.report("going on from where it was interrupted")
        yield folder


def train(task: Task, fit: Callable[..., None], network: Any, *data: Array, progress: Path, **options: Any) -> None:
    """Run a training loop on a network, in place; it goes on from what is in the progress folder."""
    checkpoint = progress / "training.pt"
    fit(network, *map(torch.from_numpy, data), checkpoint=checkpoint, report=task.report, **options)
    network.eval()


def finished(task: Task, network: Any, *, facts: dict[str, str], progress: Path, reason: str) -> Made:
    """Write the trained network as the artefact, and prove it as an export is proved: against the network itself.

    Raises:
        ConversionError: It cannot be exported.
        VerificationError: The artefact is not equal to the network, or has other tensors than the original.
    """
    spec = task.origin.manifest.spec
    outputs = tuple(tensor.name for tensor in spec.outputs)
    examples = task.data.scoring if spec.batched else request(task.data.scoring, [0], batched=False)
    declaration = declared(task.origin, examples)
    task.report("exporting the trained network, comparing the artefact with it")
    source = from_module(network, declaration)
    reference = describe(source, declaration)
    if (reference.inputs, reference.outputs) != (spec.inputs, spec.outputs):
        raise VerificationError(
            f"the trained network does not fit {task.origin.reference}",
            why=f"it gives {', '.join(map(str, reference.outputs))}; {spec.name!r} gives "
            f"{', '.join(map(str, spec.outputs))}",
            fix="let the recipe make a network with the same input and output",
            model=spec.name,
        )
    format_onnx.write(source, declaration, task.folder)
    runner = format_onnx.load(task.folder, [tensor.name for tensor in spec.inputs], outputs)
    where = f"{format_onnx.FILENAME} in process"
    proved = examine(source, declaration, reference, runner, where=where, note=task.origin.evidence.note)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Made(reason=reason, facts={**facts, "parameters": str(parameters)}, proved=proved, progress=progress)
