"""Compare answers with what the source answered, output by output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from modelport.convert.types import Array
from modelport.errors import NotFiniteError, VerificationError
from modelport.verify.tolerance import Tolerance


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What one output's comparison gave.

    Attributes:
        tensor: Output name.
        samples: Rows compared (1 for outputs without a batch axis).
        max_abs_error: Largest absolute difference; for exact outputs the share of elements that differ.
        allowed: The most that may be.
        argmax_agreement: Share of rows with the same largest class, rows whose two best are within the tolerance
            left out; None where the output is no vector of scores.
    """

    tensor: str
    samples: int
    max_abs_error: float
    allowed: float
    argmax_agreement: float | None = None

    @property
    def ok(self) -> bool:
        """True when the error is allowed and the classes agree."""
        return self.max_abs_error <= self.allowed and self.argmax_agreement in (None, 1.0)


def compare(
    wanted: Mapping[str, Array], got: Mapping[str, Array], tolerances: Mapping[str, Tolerance], *, batched: bool
) -> dict[str, Comparison]:
    """Compare every output.

    Raises:
        VerificationError: An output is missing or has another shape or type.
        NotFiniteError: NaN or infinity where the source gave a number.
    """
    found: dict[str, Comparison] = {}
    for name, want in wanted.items():
        if name not in got:
            raise VerificationError(
                f"output {name!r} is missing", why=f"the answer holds {sorted(got)}", fix="export again", tensor=name
            )
        found[name] = _one(name, want, got[name], tolerances[name], batched)
    return found


def require_ok(comparisons: Mapping[str, Comparison], *, model: str, where: str) -> None:
    """Raise for the worst output that is not within its tolerance.

    Args:
        comparisons: What `compare` gave.
        model: Model name, for the message.
        where: What answered, such as `model.onnx in ONNX Runtime`.

    Raises:
        VerificationError: With the largest error and what was allowed.
    """
    bad = [c for c in comparisons.values() if not c.ok]
    if not bad:
        return
    worst = max(bad, key=lambda c: c.max_abs_error / c.allowed if c.allowed else c.max_abs_error)
    classes = (
        "" if worst.argmax_agreement in (None, 1.0) else f", classes agree in {worst.argmax_agreement:.1%} of rows"
    )
    raise VerificationError(
        f"{model!r} is not equal to its source: largest error of {worst.tensor!r} is {worst.max_abs_error:.3g}, "
        f"allowed is {worst.allowed:.3g}{classes} ({where})",
        why="the artefact computes something else, or far less precisely, than the source",
        fix="check for layers that act differently in training, for half precision, and for a changed file",
        model=model,
        tensor=worst.tensor,
        max_abs_error=worst.max_abs_error,
        tolerance=worst.allowed,
    )


def require_finite(answers: Mapping[str, Array], *, model: str, where: str) -> None:
    """Refuse NaN.

    Raises:
        NotFiniteError: Naming the output and the number of NaN elements.
    """
    for name, answer in answers.items():
        if answer.dtype.kind == "f" and np.isnan(answer).any():
            raise NotFiniteError(
                f"output {name!r} of {model!r} holds NaN: {np.isnan(answer).sum()} of {answer.size} ({where})",
                why="the weights hold NaN, the training diverged, or the inputs are not what the model was made for",
                fix="check the weights and the example inputs",
                model=model,
                tensor=name,
            )


def _one(name: str, want: Array, got: Array, tolerance: Tolerance, batched: bool) -> Comparison:
    if want.shape != got.shape or (want.dtype.kind, want.dtype.itemsize) != (got.dtype.kind, got.dtype.itemsize):
        raise VerificationError(
            f"output {name!r} is {got.dtype}{list(got.shape)}, the source's is {want.dtype}{list(want.shape)}",
            why="the artefact gives another shape or type than the source",
            fix="export again; for a row count that differs, axis 0 of the model is no batch axis",
            tensor=name,
        )
    samples = want.shape[0] if batched and want.ndim else 1
    if tolerance.kind == "exact":
        share = float(np.mean(want != got)) if want.size else 0.0
        return Comparison(tensor=name, samples=samples, max_abs_error=share, allowed=tolerance.mismatches)
    error = _largest_difference(name, want.astype(np.float64), got.astype(np.float64))
    agreement = _argmax_agreement(want, got, tolerance.max_abs) if batched else None
    return Comparison(
        tensor=name,
        samples=samples,
        max_abs_error=error,
        allowed=tolerance.max_abs,
        argmax_agreement=agreement,
    )


def _largest_difference(name: str, want: Array, got: Array) -> float:
    odd = ~np.isfinite(want)
    if np.isnan(got).any() or not np.array_equal(odd, ~np.isfinite(got)) or not np.array_equal(want[odd], got[odd]):
        raise NotFiniteError(
            f"output {name!r} holds NaN or infinity where the source gives numbers",
            why="the artefact overflows or divides by zero where the source does not",
            fix="check for half precision, and for a changed file",
            tensor=name,
        )
    return float(np.abs(want[~odd] - got[~odd]).max(initial=0.0))  # type: ignore[operator]


def _argmax_agreement(want: Array, got: Array, allowed: float) -> float | None:
    """For [rows, classes] scores: rows whose best class is clear must have the same best class."""
    if want.ndim != 2 or want.shape[1] < 2 or want.shape[0] == 0:
        return None
    best = np.sort(want.astype(np.float64), axis=1)[:, -2:]
    with np.errstate(invalid="ignore"):  # two infinities are no clear best
        clear = (best[:, 1] - best[:, 0]) > 2 * allowed
    if not clear.any():
        return None
    return float(np.mean(want[clear].argmax(axis=1) == got[clear].argmax(axis=1)))
