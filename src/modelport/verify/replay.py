"""Replay a version's evidence: its golden inputs through something that answers, compared with the source's answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from modelport.convert.types import Array, Arrays, rows, take
from modelport.verify.compare import Comparison, compare, require_ok
from modelport.verify.evidence import Evidence, Golden

Answer = Callable[[Mapping[str, Array]], Arrays]
CONCURRENT_REQUESTS = 48
THREADS = 8
MAX_ROWS = 1 << 30  # no limit


def replay(
    answer: Answer, evidence: Evidence, golden: Golden, *, model: str, where: str, largest: int = MAX_ROWS
) -> dict[str, Comparison]:
    """Batches as large as may be, then single rows (the whole example where there is no batch axis).

    Args:
        answer: Takes inputs with the batch axis, gives outputs by name.
        evidence: Of the version.
        golden: Of the version.
        model: Model name, for messages.
        where: What answers, for messages.
        largest: The most rows that it takes at once.

    Raises:
        VerificationError: An answer is not within its tolerance.
    """
    if not evidence.batched:
        results = [compare(golden.outputs, answer(golden.inputs), evidence.tolerances, batched=False)]
        return _merge(results, evidence, model, where)
    every = np.arange(rows(golden.inputs))
    parts = np.split(every, range(largest, len(every), largest))
    results = [_ask(answer, evidence, golden, part) for part in [*parts, *every[:, np.newaxis]]]
    return _merge(results, evidence, model, where)


def replay_concurrently(
    answer: Answer,
    evidence: Evidence,
    golden: Golden,
    *,
    model: str,
    where: str,
    largest: int = MAX_ROWS,
    requests: int = CONCURRENT_REQUESTS,
) -> dict[str, Comparison]:
    """Random rows from several threads at once, one to three a request, so that a dynamic batcher mixes them.

    Args:
        requests: How many; the others as `replay`.
    """
    if not evidence.batched:
        return replay(answer, evidence, golden, model=model, where=where)
    random = np.random.default_rng(0)
    count, most = rows(golden.inputs), min(3, largest)
    picks = [random.integers(0, count, size=random.integers(1, most + 1)) for _ in range(requests)]

    def one(pick: NDArray[np.int64]) -> dict[str, Comparison]:
        return _ask(answer, evidence, golden, pick)

    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(one, picks))
    return _merge(results, evidence, model, where)


def _ask(answer: Answer, evidence: Evidence, golden: Golden, pick: NDArray[np.int64]) -> dict[str, Comparison]:
    got = answer(take(golden.inputs, pick))
    return compare(take(golden.outputs, pick), got, evidence.tolerances, batched=True)


def _merge(results: list[dict[str, Comparison]], evidence: Evidence, model: str, where: str) -> dict[str, Comparison]:
    merged: dict[str, Comparison] = {}
    for name in results[0]:
        all_of_one = [result[name] for result in results]
        worst = max(all_of_one, key=lambda c: (not c.ok, c.max_abs_error))
        agreements = [c.argmax_agreement for c in all_of_one if c.argmax_agreement is not None]
        merged[name] = Comparison(
            tensor=name,
            samples=sum(c.samples for c in all_of_one),
            max_abs_error=_share(all_of_one) if evidence.tolerances[name].kind == "exact" else worst.max_abs_error,
            allowed=worst.allowed,
            argmax_agreement=min(agreements, default=None),
        )
    require_ok(merged, model=model, where=where)
    return merged


def _share(comparisons: list[Comparison]) -> float:
    """The share of differing elements over all rows: a near tie may stand alone in a small request."""
    return sum(c.max_abs_error * c.samples for c in comparisons) / sum(c.samples for c in comparisons)
