"""Prometheus's text format: pages of metrics in, figures by name and labels out.

Own code because it is twenty lines, and because a machine from which somebody only looks at a service needs no package
for making metrics.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

Labels = tuple[tuple[str, str], ...]
_LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: -?\d+)?$", re.MULTILINE)
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


class Series:
    """The figures of one or more pages, read at one moment. Those of one name and the same labels are added up.

    Args:
        pages: Texts in Prometheus's format.
    """

    def __init__(self, pages: Iterable[str]) -> None:
        self._by_name: dict[str, dict[Labels, float]] = defaultdict(dict)
        for page in pages:
            for name, labels, value in _LINE.findall(page):
                self._add(name, labels, value)

    def _add(self, name: str, labels: str, value: str) -> None:
        try:
            figure = float(value)
        except ValueError:
            return
        found = tuple((key, _ESCAPED.sub(_letter, text)) for key, text in _LABEL.findall(labels))
        known = self._by_name[name]
        known[found] = known.get(found, 0.0) + figure

    def of(self, name: str) -> Iterator[tuple[Mapping[str, str], float]]:
        """Labels and value of each series of a name."""
        for labels, value in self._by_name.get(name, {}).items():
            yield dict(labels), value

    def has(self, name: str) -> bool:
        """Whether there is a series of a name."""
        return name in self._by_name

    def one(self, name: str) -> float | None:
        """The sum over all labels; None where there is no such series."""
        known = self._by_name.get(name)
        return sum(known.values()) if known else None

    def by(self, name: str, *keys: str) -> dict[tuple[str, ...], float]:
        """The sums by these labels; a label that is not there is empty."""
        sums: dict[tuple[str, ...], float] = defaultdict(float)
        for labels, value in self.of(name):
            sums[tuple(labels.get(key, "") for key in keys)] += value
        return dict(sums)


def quantile(buckets: Mapping[float, float], part: float) -> float | None:
    """A quantile of a histogram, as Prometheus's `histogram_quantile` reckons it.

    Args:
        buckets: Upper bound of a bucket, to how many were at most that large.
        part: Such as 0.99.

    Returns:
        In the bounds' unit, as if the values were spread evenly in their bucket; the highest finite bound for one that
        lies above it; None where there is nothing.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    below, low, rank = 0.0, 0.0, part * total
    for bound in bounds:
        if buckets[bound] >= rank and buckets[bound] > below:
            if bound == float("inf"):
                return low or None
            return low + (bound - low) * (rank - below) / (buckets[bound] - below)
        below, low = buckets[bound], bound
    return low


def _letter(found: re.Match[str]) -> str:
    return "\n" if found[1] == "n" else found[1]
