"""The samples that set the scales, and those that are scored: of a file, of what is kept, or the golden inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modelport.convert.samples import read_samples
from modelport.convert.types import Array, Arrays, rows, take
from modelport.errors import ExampleInputError
from modelport.evaluate.data import EvaluationData
from modelport.evaluate.metrics import usual
from modelport.optimise.scoring import in_rows
from modelport.optimise.types import Data, Origin
from modelport.spec import VARIES, ModelSpec, TensorSpec

CALIBRATION_ROWS = 128
SCORED_ROWS = 1000
HELD_BACK = 4  # the fewest rows to score beside those that calibrate


def gather(origin: Origin, file: Path | None, evaluation: EvaluationData | None, *, count: int, fewest: int) -> Data:
    """The samples for a version.

    A file's rows calibrate, and the evaluation data is scored; without that, one half of the file is held back. Without
    a file the evaluation data is split in two. The order is shuffled: files are often sorted by class.

    Args:
        origin: The version.
        file: `.npz` with an array for each input; None for none.
        evaluation: Labelled data; None for none. Without either, the golden inputs are scored.
        count: The most rows to calibrate with.
        fewest: The fewest that the kind works with.

    Raises:
        ExampleInputError: The samples do not fit the model, or are too few.
    """
    spec = origin.manifest.spec
    given = None if file is None else _checked(read_samples(file), spec, file.name)
    known = None if evaluation is None else _checked(dict(evaluation.inputs), spec, evaluation.name)
    words = file.name if file is not None else evaluation.name if evaluation is not None else "its golden inputs"
    if given is not None and evaluation is not None and known is not None:
        scored = np.sort(_shuffled(known)[:SCORED_ROWS])
        calibration = take(given, _shuffled(given)[:count])
        _require(rows(calibration), fewest, words, origin)
        return _data(calibration, take(known, scored), evaluation.labels[scored], _metrics(evaluation, origin), words)
    samples = given or known or in_rows(origin.golden.inputs, batched=spec.batched)
    order = _shuffled(samples)
    cut = min(count, max(fewest, len(order) // 2)) if fewest else 0  # where nothing is calibrated, all are scored
    one, two = order[:cut], order[cut : cut + SCORED_ROWS]
    _require(len(one), fewest, words, origin)
    _require(len(order), fewest + min(HELD_BACK, len(order)), words, origin)
    calibration, scoring = take(samples, one if cut else two), take(samples, two)
    if given is not None or evaluation is None:
        return _data(calibration, scoring, None, (), words)
    return _data(calibration, scoring, evaluation.labels[two], _metrics(evaluation, origin), words)


def _metrics(evaluation: EvaluationData, origin: Origin) -> tuple[str, ...]:
    """What the data says, else what the version was published with, else the first that usually fits."""
    if evaluation.metrics:
        return evaluation.metrics
    output = next(iter(origin.golden.outputs.values()))
    fits = usual(output, evaluation.labels[: len(output)])
    return tuple(name for name in fits if name in origin.manifest.metrics) or fits[:1]


def digest_of(arrays: Mapping[str, Array]) -> str:
    """A sha256 over names, types, shapes and elements."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        content = repr(array.tolist()).encode() if array.dtype.kind == "O" else np.ascontiguousarray(array).tobytes()
        digest.update(content)
    return digest.hexdigest()


def _data(calibration: Arrays, scoring: Arrays, truth: Array | None, metrics: tuple[str, ...], words: str) -> Data:
    return Data(
        calibration=calibration,
        scoring=scoring,
        truth=truth,
        metrics=metrics,
        origin=words,
        digest=digest_of(calibration),
    )


def _shuffled(samples: Arrays) -> NDArray[np.int64]:
    return np.random.default_rng(0).permutation(rows(samples))


def _require(have: int, fewest: int, words: str, origin: Origin) -> None:
    if have >= fewest:
        return
    raise ExampleInputError(
        f"there are {have} samples to optimise {origin.reference} with, at least {fewest} are needed",
        why=f"they come from {words}; scales that so few set do not fit other inputs",
        fix="give real samples, a hundred or more: --data FILE.npz with an array for each input, rows in front",
    )


def _checked(samples: Arrays, spec: ModelSpec, where: str) -> Arrays:
    """The samples when they are what the model takes; all that is wrong with them is told at once."""
    wanted = {tensor.name: tensor for tensor in spec.inputs}
    wrong = [f"there is no {name!r}" for name in wanted if name not in samples]
    wrong += [f"the model has no input {name!r}" for name in samples if name not in wanted]
    for name in wanted.keys() & samples.keys():
        wrong += _misfit(samples[name], wanted[name])
    counts = {array.shape[0] for array in samples.values() if array.ndim}
    if not wrong and len(counts) != 1:
        wrong.append(f"the inputs have different numbers of rows: {sorted(counts)}")
    if wrong:
        raise ExampleInputError(
            f"the samples in {where} do not fit {spec.name!r}: {'; '.join(sorted(wrong))}",
            why=f"the model takes {', '.join(map(str, spec.inputs))}; a file has rows in front",
            fix="write them as the model's callers send them: numpy.savez(FILE, NAME=array)",
        )
    return {name: samples[name] for name in wanted}


def _misfit(array: Array, tensor: TensorSpec) -> list[str]:
    dims = array.shape[1:]
    if array.dtype != np.dtype(tensor.dtype.numpy) or array.ndim < 1:
        return [f"{tensor.name!r} is {array.dtype}{list(array.shape)}"]
    fits = len(dims) == len(tensor.dims) and all(w in (VARIES, h) for w, h in zip(tensor.dims, dims, strict=True))
    if not fits or array.size == 0:
        return [f"{tensor.name!r} has shape {list(array.shape)}"]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return [f"{tensor.name!r} holds NaN or infinity"]
    return []
