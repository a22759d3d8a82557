"""Kind `distilled`: a published version teaches a smaller network of its recipe.

The version is asked through Triton for its answers to the training samples. The student learns to give the same
distribution, softened by a temperature, and what is right (Hinton et al., "Distilling the Knowledge in a Neural
Network", 2015).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from modelport.bench import places
from modelport.client import Client
from modelport.convert.types import Array
from modelport.errors import UsageError
from modelport.evaluate import asking
from modelport.evaluate.data import EvaluationData
from modelport.optimise import trained
from modelport.optimise.types import Made, Options, Task
from modelport.recipes.recipe import Student, Training

SUMMARY = "a smaller network of the recipe, taught by the version's served answers"
SAMPLES = 0
REASON = "it is another, smaller network, which was taught by the version"
PART_ROWS = 1000  # answers are kept in parts of so many rows
TIMEOUT_S = 60.0
UNKNOWN = -1  # the class number of samples that nobody labelled


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a student learns from.

    Attributes:
        samples: Inputs [samples, ...].
        targets: Class numbers, `UNKNOWN` where nobody knows.
        times: How many times as often they are seen, for as many steps as with all samples.
    """

    samples: Array
    targets: Array
    times: float = 1.0


def make(task: Task) -> Made:
    """Ask the teacher, train the student, export it."""
    options = task.options
    _check(options)
    training = trained.training_of(task)
    name = _student(options, training)
    student = training.students[name]
    lesson = _lesson(training, student, options)
    epochs = round((options.epochs or student.epochs) * lesson.times)
    settings = {"epochs": epochs, "student": name, "teaching": options.teaching, "temperature": options.temperature}
    torch.manual_seed(0)
    network = student.network()
    loss = soft_loss(options.teaching, options.temperature)
    with trained.progress_folder(task, "distilled", **settings) as progress:
        answers = teach(task, lesson, progress) if options.teaching else np.zeros((len(lesson.samples), 2), np.float32)
        targets = np.concatenate([lesson.targets[:, None].astype(np.float32), answers], axis=1)
        trained.train(task, student.fit, network, lesson.samples, targets, progress=progress, epochs=epochs, loss=loss)
    facts = {
        "student": name,
        "epochs": str(epochs),
        "training_samples": str(len(lesson.samples)),
        "labelled_samples": str(int((lesson.targets != UNKNOWN).sum())),
        "teaching": str(options.teaching),
        "temperature": str(options.temperature),
    }
    return trained.finished(task, network, facts=facts, progress=progress, reason=REASON)


def soft_loss(share: float, temperature: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The loss of a student's logits; the targets hold the class number or -1, then the teacher's logits.

    Args:
        share: Of the teacher; the rest is the usual loss of the class numbers.
        temperature: By which all logits are divided; the gradient is scaled back by its square.
    """

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        right = functional.cross_entropy(logits, targets[:, 0].long(), ignore_index=UNKNOWN, reduction="none").mean()
        if share == 0:
            return right
        own = functional.log_softmax(logits / temperature, dim=1)
        taught = functional.log_softmax(targets[:, 1:] / temperature, dim=1)
        apart = functional.kl_div(own, taught, log_target=True, reduction="batchmean")
        return share * temperature**2 * apart + (1 - share) * right

    return loss


def teach(task: Task, lesson: Lesson, progress: Path) -> Array:
    """The served version's logits for all samples [samples, classes]; what was answered before is kept.

    Raises:
        UsageError: It gives no logits of classes.
        ServerError: A temporary server does not start, or does not load the version.
        ClientError: A request got no answer.
    """
    starts = range(0, len(lesson.samples), PART_ROWS)
    parts = [progress / f"answers-{start}.npy" for start in starts]
    if not all(part.is_file() for part in parts):
        wanted = places.Wanted(model=task.origin.manifest.spec.name, version=task.origin.manifest.version)
        with (
            places.serving(task.repository, [wanted], protocol=places.GRPC, own=False, report=task.report) as place,
            Client(place.url, timeout_s=TIMEOUT_S) as client,
        ):
            for start, part in zip(starts, parts, strict=True):
                if not part.is_file():
                    task.report(f"asking the teacher: {100 * start // len(lesson.samples)} %")
                    _keep(part, _ask(client, wanted, task, lesson, slice(start, start + PART_ROWS)))
    return np.concatenate([np.load(part, allow_pickle=False) for part in parts])


def _ask(client: Client, wanted: places.Wanted, task: Task, lesson: Lesson, index: slice) -> Array:
    name = task.origin.manifest.spec.inputs[0].name
    rows = EvaluationData(name="training", inputs={name: lesson.samples[index]}, labels=lesson.targets[index])
    largest = task.origin.manifest.spec.max_batch_size
    answers = asking.answers(client, wanted.model, wanted.version, rows, largest=largest)
    first = next(iter(answers.values()))
    probabilities = first.ndim == 2 and first.min() >= 0 and np.allclose(first.sum(axis=1), 1, atol=1e-3)
    if first.ndim != 2 or first.shape[1] < 2 or first.dtype.kind != "f" or probabilities:
        raise UsageError(
            f"{wanted} cannot teach",
            why="its first output holds " + ("probabilities" if probabilities else f"{first.dtype}{first.shape[1:]}"),
            fix="publish a version that gives logits, one for each class",
        )
    return first.astype(np.float32)


def _keep(path: Path, answers: Array) -> None:
    temporary = path.with_suffix(".tmp.npy")
    np.save(temporary, answers, allow_pickle=False)
    temporary.replace(path)


def _lesson(training: Training, student: Student, options: Options) -> Lesson:
    """All samples; without a teacher only the labelled ones, for as many steps."""
    samples = training.samples if student.samples is None else student.samples
    targets = training.targets if student.targets is None else student.targets
    known = targets != UNKNOWN
    if options.teaching or known.all() or not known.any():
        return Lesson(samples=samples, targets=targets)
    return Lesson(samples=samples[known], targets=targets[known], times=len(known) / int(known.sum()))


def _student(options: Options, training: Training) -> str:
    wanted, known = options.student, tuple(training.students)
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted in known:
        return str(wanted)
    raise UsageError(
        f"there is no student {wanted!r}" if wanted else "it is not said which student is to be taught",
        why=f"the recipe has {', '.join(known)}" if known else "the recipe has none",
        fix="name one with --student" if known else "give its training `students`: smaller networks with that output",
    )


def _check(options: Options) -> None:
    wrong = []
    if not 0 <= options.teaching <= 1:
        wrong.append(f"teaching {options.teaching} is not from 0 to 1")
    if not 0 < options.temperature <= 100:
        wrong.append(f"temperature {options.temperature} is not above 0 and at most 100")
    if wrong:
        raise UsageError("; ".join(wrong), why="an option has a value it cannot have", fix="choose values in range")
