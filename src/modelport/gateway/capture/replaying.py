"""Captured requests, sent to a version of the running server, and its answers compared with the captured ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from modelport.client import Client
from modelport.convert.types import Array
from modelport.errors import ClientError, ManifestError, ModelportError, UnreachableError, VerificationError
from modelport.gateway.capture.exchange import Exchange
from modelport.gateway.capture.segment import Damaged
from modelport.lifecycle.served import Proven
from modelport.verify.compare import compare
from modelport.verify.tolerance import Tolerance

NO_ANSWER = "no answer was captured"
CHANGED_INPUT = "an input is redacted"
CHANGED_OUTPUT = "all outputs are redacted or were not asked for"
_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of the requests that one version had answered.

    Attributes:
        captured: That version; None where nobody told.
        same: Answers that are equal within the tolerance.
        different: Answers that are not.
        failed: Requests that got no answer now.
        unusable: Requests that cannot be compared.
        tensor: The output with the largest error, as a share of what is allowed.
        max_abs_error: That error; for whole numbers and texts the share of elements that differ.
        allowed: What is allowed for it.
    """

    captured: int | None
    same: int = 0
    different: int = 0
    failed: int = 0
    unusable: int = 0
    tensor: str = ""
    max_abs_error: float = 0.0
    allowed: float = 0.0

    @property
    def share(self) -> float:
        """The largest error as a share of what is allowed."""
        if not self.max_abs_error:
            return 0.0
        return self.max_abs_error / self.allowed if self.allowed else float("inf")


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """A replay.

    Attributes:
        model: Model name.
        version: The version that was asked.
        rows: By the version that had answered.
        unusable: Why requests cannot be compared, and how many.
        reasons: Why answers differ or failed; the first few.
        damaged: Records that were refused.
    """

    model: str
    version: int
    rows: tuple[Row, ...]
    unusable: Mapping[str, int] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()

    @property
    def same(self) -> int:
        """Answers that are equal within the tolerance."""
        return sum(row.same for row in self.rows)

    @property
    def different(self) -> int:
        """Answers that are not."""
        return sum(row.different for row in self.rows)

    @property
    def failed(self) -> int:
        """Requests that got no answer now."""
        return sum(row.failed for row in self.rows)


def unusable(exchange: Exchange) -> str:
    """Why a captured request cannot be compared; empty where it can."""
    if any(mark.startswith("input ") for mark in exchange.marks):
        return CHANGED_INPUT
    if not exchange.outputs:
        return NO_ANSWER
    return "" if _comparable(exchange) else CHANGED_OUTPUT


def replay(records: Iterable[Exchange | Damaged], client: Client, proven: Proven, *, model: str) -> Replayed:
    """Send every request that can be compared, one after the other.

    Args:
        records: What was captured.
        client: Connected to the server.
        proven: The version that is asked, with its tolerances.
        model: Model name.

    Raises:
        UnreachableError: Nothing answers any more.
        VersionNotFoundError, ModelNotFoundError: The server has no such version loaded.
    """
    rows: dict[int | None, Row] = {}
    useless: Counter[str] = Counter()
    reasons: list[str] = []
    damaged = []
    for record in records:
        if isinstance(record, Damaged):
            damaged.append(str(record))
            continue
        row = rows.get(record.version, Row(captured=record.version))
        why = unusable(record)
        if why:
            useless[why] += 1
            rows[record.version] = replace(row, unusable=row.unusable + 1)
        else:
            rows[record.version] = _ask(record, client, proven, model, row, reasons)
    return Replayed(
        model=model,
        version=proven.manifest.version,
        rows=tuple(rows[key] for key in sorted(rows, key=lambda version: version or 0)),
        unusable=dict(useless),
        reasons=tuple(dict.fromkeys(reasons))[:_EXAMPLES],
        damaged=tuple(damaged),
    )


def _ask(record: Exchange, client: Client, proven: Proven, model: str, row: Row, reasons: list[str]) -> Row:
    """The row after one more request."""
    wanted = _comparable(record)
    try:
        got = client.infer(model, version=proven.manifest.version, inputs=record.inputs)
    except UnreachableError:  # nothing answers: the others would not be answered either
        raise
    except ClientError as exc:
        reasons.append(f"failed: {type(exc).__name__}")
        return replace(row, failed=row.failed + 1)
    try:
        tolerances = {name: _scaled(proven.evidence.tolerances[name], want) for name, want in wanted.items()}
        found = compare(wanted, got, tolerances, batched=proven.evidence.batched)
    except KeyError as exc:
        reasons.append(f"different: the version has no output {exc}")
        return replace(row, different=row.different + 1)
    except VerificationError as exc:
        reasons.append(f"different: {exc.what}")
        return replace(row, different=row.different + 1)
    for one in found.values():
        seen = replace(row, tensor=one.tensor, max_abs_error=one.max_abs_error, allowed=one.allowed)
        row = seen if seen.share >= row.share else row
    for one in found.values():
        if one.argmax_agreement not in (None, 1.0):
            reasons.append(f"different: the best class of {one.tensor!r} is another one")
    good = all(one.ok for one in found.values())
    return replace(row, same=row.same + good, different=row.different + (not good))


def _comparable(record: Exchange) -> dict[str, Array]:
    """The captured outputs of which nothing is replaced."""
    return {name: array for name, array in record.outputs.items() if f"output {name}" not in record.marks}


def _scaled(tolerance: Tolerance, want: Array) -> Tolerance:
    """The tolerance for answers that are larger than the golden ones from which it was derived."""
    if tolerance.kind == "exact" or tolerance.largest <= 0 or want.dtype.kind != "f":
        return tolerance
    largest = float(np.abs(want[np.isfinite(want)].astype(np.float64)).max(initial=0.0))
    return replace(tolerance, max_abs=tolerance.max_abs * max(1.0, largest / tolerance.largest))


def problem(done: Replayed) -> ModelportError | None:
    """What a replay found wrong, as the error with which the command leaves; None where all is well."""
    if done.different:
        worst = max(done.rows, key=lambda row: row.share)
        return VerificationError(
            f"{done.different} of {done.different + done.same + done.failed} answers of {done.model!r} version "
            f"{done.version} are not the captured ones",
            why="; ".join(done.reasons)
            or f"the largest error is {worst.max_abs_error:.3g} for {worst.tensor!r}, allowed is {worst.allowed:.3g}",
            fix="for another version that may be what is wanted; for the same one, see 'modelport verify'",
            model=done.model,
            tensor=worst.tensor,
            max_abs_error=worst.max_abs_error,
            tolerance=worst.allowed,
        )
    if done.failed:
        return ClientError(
            f"{done.failed} requests to {done.model!r} version {done.version} got no answer",
            why="; ".join(done.reasons),
            fix="see 'modelport status', and the server's log",
        )
    if done.damaged:
        return ManifestError(
            f"{len(done.damaged)} captured records of {done.model!r} are refused: {done.damaged[0]}",
            why="they were changed, cut off, moved, or written with another key",
            fix="find out who writes there; 'modelport capture --off --delete' removes what is kept of a model",
        )
    if not done.same:
        return VerificationError(
            f"nothing captured of {done.model!r} can be compared",
            why="; ".join(f"{why}: {count}" for why, count in done.unusable.items()) or "nothing is captured",
            fix="redact less, or wait until more is captured",
            model=done.model,
        )
    return None
