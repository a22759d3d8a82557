"""Evaluations that are kept beside the repository, so that a later demo scores a version without training it anew.

One file for each version in `<repository>.state/evaluation/`: samples, what is right, and the answers that the
source model gave to them. It is bound to the version by the digest of its manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from modelport.convert.samples import UNREADABLE, read_npz
from modelport.recipes.recipe import Array
from modelport.repository.layout import state_folder
from modelport.repository.manifest import MANIFEST_FILE


@dataclass(frozen=True, kw_only=True)
class StoredEvaluation:
    """Samples and the source's answers to them.

    Attributes:
        inputs: Arrays by input name.
        answers: The source's answers, by output name.
        truth: What is right, for the metrics.
        metrics: Their names, the most telling one first.
        padded: Trailing zeros along axis 1 of the inputs need not be sent.
        framework: What the source model runs in, such as `keras 3.15.1`.
        slices: Column to the group of each sample.
    """

    inputs: Mapping[str, Array]
    answers: Mapping[str, Array]
    truth: Array
    metrics: tuple[str, ...]
    padded: bool
    framework: str
    slices: Mapping[str, Array] = field(default_factory=dict)


def save(repository: Path, model: str, version: int, stored: StoredEvaluation) -> None:
    """Keep the evaluation of a published version."""
    path = path_of(repository, model, version)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"input:{name}": _plain(array) for name, array in stored.inputs.items()}
    arrays |= {f"answer:{name}": _plain(array) for name, array in stored.answers.items()}
    arrays |= {f"slice:{name}": _plain(array) for name, array in stored.slices.items()}
    arrays["truth"] = stored.truth
    arrays["metrics"] = np.array(stored.metrics)
    arrays["padded"] = np.array(stored.padded)
    arrays["framework"] = np.array(stored.framework)
    arrays["manifest"] = np.array(_manifest_digest(repository, model, version))
    temporary = path.with_suffix(".tmp.npz")
    np.savez_compressed(temporary, **arrays)
    temporary.replace(path)


def load(repository: Path, model: str, version: int) -> StoredEvaluation | None:
    """The evaluation of a version; None when there is none that belongs to it."""
    try:
        arrays = read_npz(path_of(repository, model, version))
        if str(arrays["manifest"]) != _manifest_digest(repository, model, version):
            return None
        return StoredEvaluation(
            inputs={n.removeprefix("input:"): _object(a) for n, a in arrays.items() if n.startswith("input:")},
            answers={n.removeprefix("answer:"): _object(a) for n, a in arrays.items() if n.startswith("answer:")},
            truth=arrays["truth"],
            metrics=tuple(arrays["metrics"].tolist()),
            padded=bool(arrays["padded"]),
            framework=str(arrays["framework"]),
            slices={n.removeprefix("slice:"): a for n, a in arrays.items() if n.startswith("slice:")},
        )
    except (*UNREADABLE, KeyError):
        return None


def forget(repository: Path, model: str, version: int) -> None:
    """Remove the evaluation of a version that is gone."""
    path_of(repository, model, version).unlink(missing_ok=True)


def path_of(repository: Path, model: str, version: int) -> Path:
    """Where the evaluation of a version is, if there is one."""
    return state_folder(repository) / "evaluation" / f"{model}-{version}.npz"


def _manifest_digest(repository: Path, model: str, version: int) -> str:
    return hashlib.sha256((repository / model / str(version) / MANIFEST_FILE).read_bytes()).hexdigest()


def _plain(array: Array) -> Array:
    """Strings as numpy's own text type: arrays of objects could not be stored without pickle."""
    return array.astype(np.str_) if array.dtype.kind == "O" else array


def _object(array: Array) -> Array:
    return array.astype(object) if array.dtype.kind == "U" else array
