"""The samples that set the scales, and those that are scored: of a file, of what is kept, or the golden inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from modelport.convert.samples import read_samples
from modelport.convert.types import Array, Arrays, rows, take
from modelport.errors import ExampleInputError
from modelport.optimise.types import Data, Origin
from modelport.recipes import stored
from modelport.spec import VARIES, ModelSpec, TensorSpec

CALIBRATION_ROWS = 128
SCORED_ROWS = 1000


def gather(origin: Origin, repository: Path, file: Path | None, *, count: int, fewest: int) -> Data:
    """The samples for a version.

    A file's rows calibrate, and the stored evaluation is scored; without one half of the file is held back. Without a
    file the stored evaluation is split in two. The order is shuffled: files are often sorted by class.

    Args:
        origin: The version.
        repository: The model repository; its state folder may keep an evaluation of the version.
        file: `.npz` with an array for each input; None for what is kept.
        count: The most rows to calibrate with.
        fewest: The fewest that the kind works with.

    Raises:
        ExampleInputError: The samples do not fit the model, or are too few.
    """
    spec = origin.manifest.spec
    kept = stored.load(repository, spec.name, origin.manifest.version)
    given = None if file is None else _checked(read_samples(file), spec, str(file))
    if given is None and kept is None:
        given, words = dict(origin.golden.inputs), "the version's golden inputs"
    else:
        words = "the version's stored evaluation" if file is None else file.name
    if not spec.batched:
        samples = given if given is not None else dict(origin.golden.inputs)
        _require(1, fewest, words, origin)
        return _data(samples, samples, None, (), words)
    if given is not None and kept is not None:
        scored = range(min(SCORED_ROWS, rows(kept.inputs)))
        calibration = _first(given, count)
        _require(rows(calibration), fewest, words, origin)
        return _data(calibration, take(kept.inputs, scored), kept.truth[: len(scored)], kept.metrics, words)
    samples = given if given is not None else dict(kept.inputs)  # type: ignore[union-attr]
    order = np.random.default_rng(0).permutation(rows(samples))
    cut = min(count, max(fewest, len(order) // 2))
    if fewest == 0:
        cut = 0 if len(order) < 16 else cut  # nothing is calibrated: score them all
    one, two = order[:cut], order[cut : cut + SCORED_ROWS]
    _require(len(one), fewest, words, origin)
    if len(two) < min(4, len(order)):
        raise _too_few(len(order), fewest + 4, words, origin)
    truth = None if given is not None or kept is None else kept.truth[two]
    metrics = () if given is not None or kept is None else kept.metrics
    return _data(take(samples, one if cut else two), take(samples, two), truth, metrics, words)


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


def _first(samples: Arrays, count: int) -> Arrays:
    order = np.random.default_rng(0).permutation(rows(samples))
    return take(samples, order[:count])


def _require(have: int, fewest: int, words: str, origin: Origin) -> None:
    if have < fewest:
        raise _too_few(have, fewest, words, origin)


def _too_few(have: int, fewest: int, words: str, origin: Origin) -> ExampleInputError:
    return ExampleInputError(
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
        wrong += _misfit(samples[name], wanted[name], spec.batched)
    counts = {array.shape[0] for array in samples.values() if array.ndim}
    if spec.batched and not wrong and len(counts) != 1:
        wrong.append(f"the inputs have different numbers of rows: {sorted(counts)}")
    if wrong:
        raise ExampleInputError(
            f"the samples in {where} do not fit {spec.name!r}: {'; '.join(sorted(wrong))}",
            why=f"the model takes {', '.join(map(str, spec.inputs))}{', rows in front' if spec.batched else ''}",
            fix="write them as the model's callers send them: numpy.savez(FILE, NAME=array)",
        )
    return {name: samples[name] for name in wanted}


def _misfit(array: Array, tensor: TensorSpec, batched: bool) -> list[str]:
    dims = array.shape[1:] if batched else array.shape
    if array.dtype != np.dtype(tensor.dtype.numpy) or array.ndim < int(batched):
        return [f"{tensor.name!r} is {array.dtype}{list(array.shape)}"]
    fits = len(dims) == len(tensor.dims) and all(w in (VARIES, h) for w, h in zip(tensor.dims, dims, strict=True))
    if not fits or array.size == 0:
        return [f"{tensor.name!r} has shape {list(array.shape)}"]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return [f"{tensor.name!r} holds NaN or infinity"]
    return []
