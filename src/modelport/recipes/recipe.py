"""What a recipe is, and what it makes: models to convert, Triton python models, ensembles of them.

A recipe is a script that defines `RECIPE` and ends with `main(RECIPE, __file__)` of `modelport.commands.build`.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelport.errors import UsageError
from modelport.recipes.images import WHERE
from modelport.repository.card import Card
from modelport.repository.gate import Gate

Array = NDArray[Any]
QUICK_SAMPLES, QUICK_NUMBERS = 200, 1_000_000


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a recipe is to be built.

    Attributes:
        quick: Train and score on a sliver of the data, to see that everything works; the model is no good.
        data: `auto`, `package` (data that ships in packages) or `loader` (Keras's own loaders).
        weights: A file with trained weights, for recipes that take one.
        scratch: A folder for files that are needed until the models are published.
        report: Called with one line at each step.
    """

    quick: bool = False
    data: str = "auto"
    weights: Path | None = None
    scratch: Path = Path()
    report: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        if self.data not in WHERE:
            raise UsageError(
                f"data cannot come from {self.data!r}", why="it is no known place", fix=f"use {', '.join(WHERE)}"
            )

    def rows(self, full: int, quick: int = 256) -> int:
        """How many samples to train with."""
        return quick if self.quick else full

    def epochs(self, full: int) -> int:
        """How often to go through them."""
        return 1 if self.quick else full

    def scored(self, evaluation: Evaluation) -> Evaluation:
        """What of an evaluation is used: all of it, or with `quick` its first samples, 200 or a million numbers."""
        if not self.quick:
            return evaluation
        largest = max(array[:1].size for array in evaluation.inputs.values())
        rows = min(QUICK_SAMPLES, max(1, QUICK_NUMBERS // max(1, largest)))
        inputs = {name: array[:rows] for name, array in evaluation.inputs.items()}
        slices = {name: array[:rows] for name, array in evaluation.slices.items()}
        return replace(evaluation, inputs=inputs, truth=evaluation.truth[:rows], slices=slices)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Real samples that the model was not trained with, and how its answers to them are scored.

    Attributes:
        inputs: Arrays by input name, samples along axis 0.
        truth: What is right, one row for each sample; see the metric for its form.
        metrics: Names from `modelport.evaluate.metrics`, the most telling one first.
        padded: The inputs end in zeros along axis 1 that mean nothing and need not be sent.
        slices: Column to the group of each sample, such as `length` to `short` and `long`.
        gates: What a later version must be worth on these samples before it may serve.
    """

    inputs: Mapping[str, Array]
    truth: Array
    metrics: tuple[str, ...]
    padded: bool = False
    slices: Mapping[str, Array] = field(default_factory=dict)
    gates: tuple[Gate, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained model to be converted; the fields are those of `modelport.export`.

    The evaluation's samples are the example inputs too, so that the tolerance fits what is asked later.
    """

    name: str
    model: Any
    evaluation: Evaluation
    card: Card
    output_names: tuple[str, ...] = ()
    dynamic_axes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    pad: Mapping[str, float] = field(default_factory=dict)
    labels: Sequence[str] | None = None
    format: str = "onnx"
    instance_count: int = 1


@dataclass(frozen=True, kw_only=True)
class PythonModel:
    """A Triton python model, as a step of an ensemble.

    Attributes:
        folder: Holds its `model.py`; the folder's name is the model's.
        texts: Further files by name, with their content.
        example_inputs: Arrays by input name, with the batch axis; they say what the tensors are.
        answers: What it must answer to them.
        card: Source, data, licence.
    """

    folder: Path
    texts: Mapping[str, str] = field(default_factory=dict)
    example_inputs: Mapping[str, Array]
    answers: Mapping[str, Array]
    card: Card

    @property
    def name(self) -> str:
        """Model name."""
        return self.folder.name


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Models joined inside the server: a tensor goes from the step that gives it to those that take it, by name.

    Attributes:
        name: Model name.
        steps: Each step's model with the names of its inputs and outputs.
        framework: What the network in it runs in, such as `pytorch 2.13.0`.
        answer: The same pipeline in this process: inputs to answers, in the source's precision.
        answer_double: The same with the network in float64, for the tolerance.
        evaluation: Samples and metrics.
        card: Source, data, licence.
    """

    name: str
    steps: Sequence[tuple[str, Sequence[str], Sequence[str]]]
    framework: str
    answer: Callable[[Mapping[str, Array]], dict[str, Array]]
    answer_double: Callable[[Mapping[str, Array]], dict[str, Array]]
    evaluation: Evaluation
    card: Card


Product = Trained | PythonModel | Ensemble


@dataclass(frozen=True, kw_only=True)
class Student:
    """A smaller network that a published version can teach.

    Attributes:
        network: Makes it, untrained.
        fit: Its training loop, which takes `loss` as well.
        epochs: How often all samples are seen.
        samples: What it is taught with; None for what the network was trained with.
        targets: What is right for `samples`, -1 where nobody knows: there only the teacher's answers count.
    """

    network: Callable[[], Any]
    fit: Callable[..., None]
    epochs: int = 1
    samples: Array | None = None
    targets: Array | None = None


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a PyTorch network is trained, so that a smaller one can be: for `modelport optimise`.

    Attributes:
        network: Makes the network as it was built, untrained. It has one input and gives one output.
        samples: What it is trained with [samples, ...], as the model's callers send it.
        targets: What is right, one row for each sample: class numbers for a classifier.
        fit: The training loop, `fit(network, inputs, targets, epochs=..., checkpoint=..., report=...)`; see
            `modelport.recipes.training.fit`.
        epochs: How often all samples are seen once more when it was pruned.
        students: Smaller networks that a published version can teach, by name.
    """

    network: Callable[[], Any]
    samples: Array
    targets: Array
    fit: Callable[..., None]
    epochs: int = 1
    students: Mapping[str, Student] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How sample models are made.

    Attributes:
        models: The models that callers use, scored by the demo.
        build: Trains or loads them; gives all products in the order in which they must be published.
        parts: Models that only serve as steps of an ensemble.
        takes_weights: Whether `--weights` means something to it.
        evaluation_data: Gives the labelled samples of each model that callers use, without training anything.
        training: Gives how the network of a model is trained. What it is built with is then kept beside the repository.
    """

    models: tuple[str, ...]
    build: Callable[[Options], Sequence[Product]]
    parts: tuple[str, ...] = ()
    takes_weights: bool = False
    evaluation_data: Callable[[Options], Mapping[str, Evaluation]] | None = None
    training: Callable[[Options], Mapping[str, Training]] | None = None


def recipe_digest(path: Path, options: Options | None = None) -> str:
    """A sha256 over everything of ours that decides what a recipe builds.

    That is the script, each file beside it that the script or such a file imports, each file or folder beside it
    whose name stands in it as a string, and the options.

    Args:
        path: The recipe.
        options: How it is built; the defaults when left out.

    Raises:
        UsageError: The weights file cannot be read.
    """
    options = options or Options()
    digest = hashlib.sha256(f"quick={options.quick} data={options.data}\n".encode())
    for file in sorted(_sources(path.resolve())):
        digest.update(f"{file.relative_to(path.resolve().parent).as_posix()}\n".encode() + file.read_bytes())
    if options.weights is not None:
        try:
            digest.update(options.weights.read_bytes())
        except OSError as exc:
            raise UsageError(
                f"the weights {options.weights} cannot be read", why=str(exc), fix="name a file that exists"
            ) from exc
    return digest.hexdigest()


def _sources(recipe: Path) -> set[Path]:
    root, found, waiting = recipe.parent, set[Path](), [recipe]
    while waiting:
        path = waiting.pop()
        if path.is_dir():
            waiting += [p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        elif path not in found:
            found.add(path)
            if path.suffix == ".py":
                waiting += _mentioned(path, root)
    return found


def _mentioned(path: Path, root: Path) -> list[Path]:
    """The files and folders below `root` that a Python file imports or names."""
    candidates: list[Path] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), path.name)):
        if isinstance(node, ast.Import):
            candidates += [root / f"{alias.name.replace('.', '/')}.py" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            base = root / node.module.replace(".", "/")
            candidates += [base.with_suffix(".py"), *(base / f"{alias.name}.py" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isprintable():
            candidates += [root / node.value] if 0 < len(node.value) < 100 and node.value.strip("./") else []
    return [c for c in candidates if c.exists() and root in c.resolve().parents]


def as_rows(inputs: Mapping[str, Array], rows: slice | Sequence[int]) -> dict[str, Array]:
    """The same rows of every array."""
    index = rows if isinstance(rows, slice) else np.asarray(rows, dtype=np.int64)
    return {name: array[index] for name, array in inputs.items()}
