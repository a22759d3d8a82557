"""The cores that a server here may use, and how they are divided among its models.

Cores are counted below the repository, whose checks need the number too; see `modelport._cores`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from modelport._cores import quotas, usable

__all__ = ["Part", "divide", "quotas", "split", "usable"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one model gets.

    Attributes:
        share: Its part of the cores by weight, such as 0.4 of a core.
        own: Whole cores that are its own; 0 for a model with less than one, which takes turns with others like it.
    """

    share: float
    own: int


def divide(cores: int, weights: Mapping[str, float]) -> dict[str, Part]:
    """Divide cores among models by weight. What models get for their own is never more than the cores together.

    Those with a share of one core or more get whole cores. Those with less stand in line for one share, which is theirs
    together. All these are rounded down, and the cores that remain go to the largest rests, one each.

    Args:
        cores: Whole cores.
        weights: Model to a weight that is not negative; where all are 0, all are alike.
    """
    exact = {model: Fraction(weight) for model, weight in weights.items()}
    if not sum(exact.values()):
        exact = dict.fromkeys(exact, Fraction(1))
    whole = sum(exact.values())
    shares = {model: cores * weight / whole for model, weight in exact.items()}
    large = {model: share for model, share in shares.items() if share >= 1}
    entries = [*large.items(), ("", sum((share for share in shares.values() if share < 1), Fraction(0)))]
    own = {model: int(share) for model, share in entries}
    rests = sorted(entries, key=lambda entry: (int(entry[1]) - entry[1], -entry[1], entry[0]))
    for model, _ in rests[: cores - sum(own.values())]:
        own[model] += 1
    return {model: Part(share=float(share), own=own[model] if model in large else 0) for model, share in shares.items()}


def split(own: int, *, instances: int, threaded: bool) -> tuple[int, int]:
    """Instances and threads of each for a model's own cores.

    As many cores as possible are used; of several ways to do that, the one nearest to the instances that it has now.

    Args:
        own: Its own cores; without any it gets one instance with one thread.
        instances: Its instances now.
        threaded: Whether its backend can be told how many threads an instance uses; else each counts for one core, and
            it gets no more instances than it has now.
    """
    if own <= 1:
        return 1, 1
    if not threaded:
        return min(instances, own), 1
    best = min(range(1, own + 1), key=lambda count: (-count * (own // count), abs(count - instances), count))
    return best, own // best
