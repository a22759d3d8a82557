"""The pictures of an evaluation: confusion matrix, ROC curves, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelport.evaluate.forms import Array
from modelport.pages.pictures import COLOURS, GRID, picture

MOST_CURVES = 6
BINS = 10


def confusion(table: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """How often each class was answered, as a share of the rows of the right class; the numbers are counts."""
    counts = np.asarray(table, dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def draw(axes: Any) -> None:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        ticks = range(len(names))
        axes.set_xticks(ticks, names, rotation=45 if max(map(len, names)) > 3 else 0)
        axes.set_yticks(ticks, names)
        axes.set_xlabel("answered")
        axes.set_ylabel("right")
        if len(names) <= 15:
            for right, row in enumerate(counts):
                for answered, count in enumerate(row):
                    colour = "#ffffff" if shares[right, answered] > 0.5 else "#1a1a1a"
                    axes.text(answered, right, f"{count:.0f}", ha="center", va="center", color=colour, fontsize=8)

    return picture(draw, "Confusion matrix", grid=False)


def roc(curves: Mapping[str, tuple[Array, Array]]) -> str:
    """True positive rate against false positive rate, a curve for each class."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=GRID, linewidth=2)
        for (name, (false, true)), colour in zip(curves.items(), COLOURS, strict=False):
            axes.plot(false, true, color=colour, label=name)
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
        axes.legend(frameon=False, loc="lower right")

    return picture(draw, "ROC")


def calibration(chances: Array, right: Array) -> str:
    """How often an answer was right, against the probability that it had."""
    edges = np.linspace(0, 1, BINS + 1)
    bins = np.clip(np.digitize(chances, edges) - 1, 0, BINS - 1)
    used = [b for b in range(BINS) if np.any(bins == b)]

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=GRID, linewidth=2)
        x = [float(chances[bins == b].mean()) for b in used]
        y = [float(right[bins == b].mean()) for b in used]
        axes.plot(x, y, marker="o", color=COLOURS[0])
        for b, at, share in zip(used, x, y, strict=True):
            axes.annotate(f"{int(np.sum(bins == b))}", (at, share), (4, -10), textcoords="offset points", fontsize=8)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("probability of the answer")
        axes.set_ylabel("share that was right")

    return picture(draw, "Calibration; the numbers are rows")


def residuals(answered: Array, right: Array) -> str:
    """Answered numbers against the right ones."""

    def draw(axes: Any) -> None:
        ends = [float(min(right.min(), answered.min())), float(max(right.max(), answered.max()))]
        axes.plot(ends, ends, color=GRID, linewidth=2)
        axes.plot(right.ravel()[:2000], answered.ravel()[:2000], ".", markersize=4, color=COLOURS[0])
        axes.set_xlabel("right")
        axes.set_ylabel("answered")

    return picture(draw, "Answers against what is right")
