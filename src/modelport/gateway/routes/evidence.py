"""Whether a canary is as good as the stable version: counts in, intervals and verdicts out. Pure arithmetic.

**Errors.** The rise is the canary's error rate less stable's. Its bounds are Newcombe's, of two Wilson score intervals:
they hold for small counts and for none at all, where the usual bounds say "exactly 0" (R. G. Newcombe, "Interval
estimation for the difference between independent proportions", Statistics in Medicine 17 (1998) 873-890, method 10).

**Latency.** Each look gives one ratio: the canary's mean time in the server over stable's, in the same seconds, so that
what slows down both says nothing. The bounds are those of the sign test for the median of the ratios: a single stall
does not move them, and nothing is assumed of how times are distributed (W. J. Dixon and A. M. Mood, "The statistical
sign test", Journal of the American Statistical Association 41 (1946) 557-566).

**Disagreement.** The share of replayed requests to which the canary answers otherwise, with a Wilson score bound.

**Looking often.** Who looks again and again until something is beyond its bound finds it in the end. So the looks of a
rollout share one budget: the j-th spends 1/(j(j+1)) of it, and all of them together, however many, no more than the
whole (Bonferroni's inequality; it holds whatever the looks have in common). A look that can show nothing is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, median

WORSE, FINE, OPEN = "worse", "fine", "open"
ERRORS, LATENCY, DISAGREEMENT = "errors", "latency", "disagreement"


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What became of requests.

    Attributes:
        requests: How many there were.
        failed: How many of them failed.
    """

    requests: int
    failed: int

    @property
    def rate(self) -> float:
        """The share that failed; 0 of none."""
        return self.failed / self.requests if self.requests else 0.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found of one criterion.

    Attributes:
        criterion: `errors`, `latency` or `disagreement`.
        canary: The canary's requests, windows or requests.
        canary_failed: How many of them failed, or differ; None for the latency.
        stable: Stable's requests; None where there is no such number.
        stable_failed: How many of them failed; None where there is no such number.
        value: The rise, the ratio or the share; None where nothing is known of it.
        low: It is above this; None where nothing is known.
        high: It is below this; None where nothing is known.
        low_error: How often the truth may be below `low`, by chance.
        high_error: How often it may be above `high`.
        threshold: The most that is allowed; None where it is not judged.
        verdict: `worse`, `fine` or `open`.
    """

    criterion: str
    canary: int
    canary_failed: int | None = None
    stable: int | None = None
    stable_failed: int | None = None
    value: float | None
    low: float | None
    high: float | None
    low_error: float
    high_error: float
    threshold: float | None
    verdict: str


def spent(budget: float, look: int) -> float:
    """What the `look`-th look (from 1) may spend of a budget; all of them together spend no more than it."""
    return budget / (look * (look + 1))


def errors(canary: Tally, stable: Tally, *, allowed: float, low_error: float, high_error: float) -> Finding:
    """Judge the rise of the error rate.

    Args:
        canary: The canary's requests.
        stable: Stable's, in the same time.
        allowed: The most that the rate may rise, such as 0.01.
        low_error: How often `worse` may be wrong.
        high_error: How often `fine` may be wrong.
    """
    value = low = high = None
    if canary.requests and stable.requests:
        value = canary.rate - stable.rate
        low, high = _rise_above(canary, stable, low_error), -_rise_above(stable, canary, high_error)
    return Finding(
        criterion=ERRORS,
        canary=canary.requests,
        canary_failed=canary.failed,
        stable=stable.requests,
        stable_failed=stable.failed,
        value=value,
        low=low,
        high=high,
        low_error=low_error,
        high_error=high_error,
        threshold=allowed,
        verdict=_verdict(low, high, allowed),
    )


def latency(ratios: Sequence[float], *, allowed: float, low_error: float, high_error: float) -> Finding:
    """Judge the ratio of the latencies.

    Args:
        ratios: Canary over stable, one for each window.
        allowed: The highest ratio, such as 1.5.
        low_error: How often `worse` may be wrong.
        high_error: How often `fine` may be wrong.
    """
    ordered = sorted(ratios)
    below, above = _tail(len(ordered), low_error), _tail(len(ordered), high_error)
    low = ordered[below - 1] if below else None
    high = ordered[-above] if above else None
    return Finding(
        criterion=LATENCY,
        canary=len(ordered),
        value=median(ordered) if ordered else None,
        low=low,
        high=high,
        low_error=low_error,
        high_error=high_error,
        threshold=allowed,
        verdict=_verdict(low, high, allowed),
    )


def disagreement(
    requests: int, differing: int, *, allowed: float | None, low_error: float, high_error: float
) -> Finding:
    """Judge how many replayed requests are answered otherwise.

    Replaying them again tells nothing new, so it is never open: what is not shown to be worse is fine.

    Args:
        requests: How many were asked of both.
        differing: To how many of them the answers differ.
        allowed: The highest share, such as 0.1; None: nothing is too much.
        low_error: How often `worse` may be wrong.
        high_error: How often the share among other requests may be above `high`.
    """
    low = wilson(differing, requests, low_error)[0] if requests else None
    return Finding(
        criterion=DISAGREEMENT,
        canary=requests,
        canary_failed=differing,
        value=differing / requests if requests else None,
        low=low,
        high=wilson(differing, requests, high_error)[1] if requests else None,
        low_error=low_error,
        high_error=high_error,
        threshold=allowed,
        verdict=WORSE if low is not None and allowed is not None and low > allowed else FINE,
    )


def wilson(count: int, total: int, error: float) -> tuple[float, float]:
    """Wilson's score bounds of a share, each of which is wrong with probability `error`.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American
    Statistical Association 22 (1927) 209-212.
    """
    z = -NormalDist().inv_cdf(error)
    share, weight = count / total, z * z / total
    middle = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / total + weight / (4 * total)) / (1 + weight)
    return (0.0 if count == 0 else max(0.0, middle - half)), (1.0 if count == total else min(1.0, middle + half))


def _rise_above(one: Tally, other: Tally, error: float) -> float:
    """What the rate of `one` is above that of `other` by at least."""
    low, high = wilson(one.failed, one.requests, error)[0], wilson(other.failed, other.requests, error)[1]
    return one.rate - other.rate - math.hypot(one.rate - low, high - other.rate)


def _tail(count: int, error: float) -> int:
    """The most k for which the k-th lowest of `count` values is above their median with probability `error` at most."""
    whole, so_far, k = 2**count, 0, 0
    while k < count and (so_far := so_far + math.comb(count, k)) / whole <= error:
        k += 1
    return k


def _verdict(low: float | None, high: float | None, allowed: float) -> str:
    if low is not None and low > allowed:
        return WORSE
    return FINE if high is not None and high <= allowed else OPEN
