"""A picture as SVG text that stands in the page itself."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.figure import Figure

# Told apart by people who see few colours, too (Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, GRID = "#222222", "#e5e5e5"  # replaced by the page's own: a page may be dark
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "modelport",
    "font.family": "sans-serif",
    "font.size": 10,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "text.parse_math": False,  # a name is a name, whatever letters it has
}


def picture(draw: Callable[[Any], None], title: str, *, grid: bool = True) -> str:
    """What `draw` puts on the axes that it is given."""
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.set_title(title, fontsize=11, loc="left")
        if grid:
            axes.grid(visible=True, color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    text = text[text.index("<svg") :]  # without the XML declaration, which a page does not take
    return text.replace(INK, "currentColor").replace(GRID, "var(--line)").replace(COLOURS[0].lower(), "var(--first)")
