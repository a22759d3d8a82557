"""Ask the canary and the stable version the same, and count the requests that they answer differently."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modelport.client import Client
from modelport.convert.types import Array, Arrays, rows, take
from modelport.errors import (
    ClientError,
    ManifestError,
    ModelportError,
    RequestError,
    UnreachableError,
    VerificationError,
)
from modelport.gateway.routes.rollout import Replay
from modelport.lifecycle import served
from modelport.lifecycle.served import Proven
from modelport.repository import config as configs
from modelport.repository.layout import version_folder
from modelport.verify.compare import Comparison, compare
from modelport.verify.tolerance import Tolerance

MOST = 256  # requests
TIMEOUT_S = 30.0
Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two versions of a model.

    Attributes:
        model: Model name.
        canary: The canary, with what it must answer.
        stable: The version that it is compared with.
    """

    model: str
    canary: Proven
    stable: int


def replay(repository: Path, url: str, pair: Pair, report: Report) -> Replay:
    """Ask both for the golden inputs of both, and for what was captured of the model's requests.

    Args:
        repository: The model repository.
        url: The server.
        pair: The versions.
        report: Told what is left out.

    Raises:
        UnreachableError: Nothing answers.
    """
    asked = itertools.chain(_golden(repository, pair), captured(repository, pair.model, report))
    with Client(url, timeout_s=TIMEOUT_S, retries=0, token="") as client:
        return counted(asked, pair, lambda version, inputs: client.infer(pair.model, version=version, inputs=inputs))


def counted(asked: Iterable[Arrays], pair: Pair, ask: Callable[[int, Arrays], Arrays]) -> Replay:
    """Count the requests that two versions answer differently.

    An answer differs where the canary gives none, or other classes: the largest of scores that add up to 1, near ties
    aside, or a whole number or text. Where a model gives none of these, one differs that is not within the canary's own
    tolerance: another version then differs nearly always, and how much of it is allowed is for its owner to say.

    Args:
        asked: Inputs of one request each, as callers send them.
        pair: The versions.
        ask: Takes a version and inputs, gives its answers.
    """
    canary, evidence = pair.canary.manifest.version, pair.canary.evidence
    found: list[dict[str, Comparison] | None] = []
    classes: set[str] = set()
    for inputs in itertools.islice(asked, MOST):
        try:
            want = ask(pair.stable, inputs)
        except (RequestError, VerificationError):
            continue  # it is none that a caller gets an answer to
        classes |= {name for name, array in want.items() if _is_class(array, evidence.batched)}
        try:
            got = ask(canary, inputs)
            wanted = {name: array for name, array in want.items() if name in evidence.tolerances}
            found.append(compare(wanted, got, evidence.tolerances, batched=evidence.batched))
        except UnreachableError:
            raise
        except (ClientError, VerificationError):
            found.append(None)
    differing = sum(one is None or _differs(one, classes, evidence.tolerances) for one in found)
    return Replay(requests=len(found), differing=differing, classes=bool(classes))


def _differs(found: Mapping[str, Comparison], classes: Collection[str], tolerances: Mapping[str, Tolerance]) -> bool:
    if not classes:
        return not all(one.ok for one in found.values())
    named = [one for name, one in found.items() if name in classes]
    if any(tolerances[one.tensor].kind == "exact" and not one.ok for one in named):
        return True
    return any(one.argmax_agreement not in (None, 1.0) for one in named)


def _is_class(array: Array, batched: bool) -> bool:
    """Whether an output says which class: whole numbers and texts, or scores that add up to 1."""
    if array.dtype.kind != "f":
        return True
    if not batched or array.ndim != 2 or array.shape[1] < 2:
        return False
    scores = array.astype(np.float64)
    return bool((scores >= 0).all() and np.allclose(scores.sum(axis=1), 1.0, atol=1e-2))


def _golden(repository: Path, pair: Pair) -> Iterator[Arrays]:
    """The golden inputs of both versions, row by row."""
    both = [pair.canary]
    with contextlib.suppress(ManifestError):  # a version without evidence has none
        both.append(served.read(version_folder(repository, pair.model, pair.stable), compare_files=False))
    for proven in both:
        inputs = configs.outside(proven.golden.inputs, proven.manifest.spec.inputs)
        if proven.evidence.batched:
            yield from (take(inputs, [row]) for row in range(rows(inputs)))
        else:
            yield inputs


def captured(repository: Path, model: str, report: Report) -> Iterator[Arrays]:
    """What callers asked, where it was captured, and nothing in it is replaced.

    Args:
        repository: The model repository.
        model: Model name.
        report: Told why nothing of it can be read.
    """
    from modelport.gateway.capture import keeper, secret  # they import cryptography
    from modelport.gateway.capture.exchange import Exchange

    if model not in keeper.models(repository):
        return
    try:
        for found in keeper.read(repository, model, secret.read(repository)):
            if isinstance(found, Exchange) and not any(mark.startswith("input ") for mark in found.marks):
                yield dict(found.inputs)
    except ModelportError as exc:
        report(f"captured requests are not replayed: {exc.what}")
