"""The values and the interface of optimising: what a kind is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from modelport.convert.types import Array, Arrays
from modelport.optimise.scoring import Judge
from modelport.repository.config import ModelConfig
from modelport.repository.manifest import Manifest
from modelport.verify.evidence import Evidence, Golden

FILENAME = "model.onnx"
CALIBRATIONS = ("minmax", "entropy", "percentile")
Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The published version that is optimised.

    Attributes:
        folder: Its folder.
        manifest: What it is.
        digest: sha256 of its `manifest.json`.
        evidence: What was proved about it.
        golden: Golden inputs, and the trained model's answers to them.
        config: The configuration that it was made for.
        labels: Label file name to its lines.
    """

    folder: Path
    manifest: Manifest
    digest: str
    evidence: Evidence
    golden: Golden
    config: ModelConfig
    labels: Mapping[str, tuple[str, ...]]

    @property
    def reference(self) -> str:
        """`NAME/VERSION`."""
        return f"{self.manifest.spec.name}/{self.manifest.version}"

    @property
    def filename(self) -> str:
        """How its ONNX file is called; every version of a model has that name."""
        return self.config.default_model_filename or FILENAME

    @property
    def artefact(self) -> Path:
        """Its ONNX file."""
        return self.folder / self.filename


@dataclass(frozen=True, kw_only=True)
class Data:
    """Real samples, in two sets that share none unless there are too few.

    Attributes:
        calibration: Arrays by input name; their activations set the scales. Rows in front, also where there is no
            batch axis.
        scoring: Arrays by input name; original and optimised model are compared on them.
        truth: What is right for `scoring`; None where nobody knows.
        metrics: The names of the metrics for `truth`, the most telling one first.
        origin: Where the samples come from, in words.
        digest: sha256 over the calibration samples.
    """

    calibration: Arrays
    scoring: Arrays
    truth: Array | None
    metrics: tuple[str, ...]
    origin: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a version is to be optimised.

    Attributes:
        calibration: How ranges are found in static quantisation: `minmax`, `entropy` or `percentile`.
        per_channel: Whether weights get a scale for each channel, not one for the whole tensor.
        exclude: Names of layers that keep their precision.
        max_drop: How much lower the first score may be; None for the default of that score.
        min_agreement: The least agreement with the original; None for any where a metric decides.
        recipe: The recipe's script, for kinds that train; None for the one that built the version, in `export/`.
        ratio: The share of channels that `pruned` takes out of each layer.
        epochs: How often all samples are seen in training; None for what the recipe says.
        student: Which of the recipe's students is taught; None for its only one.
        teaching: The teacher's share of what `distilled` learns from, the labels have the rest; 0 to 1.
        temperature: By how much the logits of teacher and student are divided; higher is softer.
        quick: Ask the recipe for a sliver of its data, to see that everything works.
    """

    calibration: str = "minmax"
    per_channel: bool = True
    exclude: tuple[str, ...] = ()
    max_drop: float | None = None
    min_agreement: float | None = None
    recipe: Path | None = None
    ratio: float = 0.5
    epochs: int | None = None
    student: str | None = None
    teaching: float = 0.5
    temperature: float = 2.0
    quick: bool = False


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a kind works with.

    Attributes:
        origin: The version to optimise.
        data: Samples.
        options: How.
        judge: Scores a runner against the original.
        folder: An empty folder; the artefact `FILENAME` goes there.
        scratch: A folder for what is not kept.
        repository: The model repository.
        report: Called with one line at each step.
    """

    origin: Origin
    data: Data
    options: Options
    judge: Judge
    folder: Path
    scratch: Path
    repository: Path
    report: Report


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a kind made, beside the artefact.

    Attributes:
        margin: The tolerance is so many times the largest error that was seen.
        unit: The least relative step of its numbers; the tolerance is never below 16 of them. 0 for none.
        reason: Why the answers differ, for the evidence.
        facts: For the manifest.
        notes: For people, one line each.
        proved: Evidence and golden answers of a network that was trained for this: it is compared with itself, as in an
            export. None where the original's answers are what it is compared with.
        progress: A folder with what is needed to go on after an interruption; it goes when the version is published.
    """

    margin: float = 1.0
    reason: str
    unit: float = 0.0
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    proved: tuple[Evidence, Golden] | None = None
    progress: Path | None = None


class Kind(Protocol):
    """One kind of optimisation. A module with these names is a kind; `registry.KINDS` lists them."""

    SUMMARY: str
    """One line."""

    SAMPLES: int
    """The fewest calibration samples that it works with; 0 where it needs none."""

    def make(self, task: Task) -> Made:
        """Write the artefact into `task.folder`.

        Raises:
            ConversionError: The model cannot be optimised so.
            VerificationError: It would answer too differently.
        """
        ...
