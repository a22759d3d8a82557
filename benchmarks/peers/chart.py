"""The chart of the peers: a bar for each server, a picture for each model."""

from __future__ import annotations

import io
from collections.abc import Mapping

import matplotlib
from matplotlib.figure import Figure

from modelport.bench.results import Spread

OURS, THEIRS = "#0072B2", "#B8B8B8"
SETTINGS = {"svg.hashsalt": "modelport", "font.size": 9, "text.parse_math": False}


def draw(bars: Mapping[str, Mapping[str, Spread]], ours: str) -> str:
    """An SVG.

    Args:
        bars: Title of each picture -> server -> requests per second; the largest first.
        ours: What the names of our own servers begin with.
    """
    columns = 2
    lines = -(-len(bars) // columns)
    most = max(len(servers) for servers in bars.values())
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(9, lines * (0.8 + 0.26 * most)), layout="constrained", facecolor="white")
        every = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes, (title, servers) in zip(every, bars.items(), strict=False):
            middle = [one.median for one in servers.values()]
            reach = [
                [one.median - one.low for one in servers.values()],
                [one.high - one.median for one in servers.values()],
            ]
            colours = [OURS if name.startswith(ours) else THEIRS for name in servers]
            drawn = axes.barh(list(servers), middle, xerr=reach, color=colours, ecolor="#555555", height=0.7)
            axes.bar_label(drawn, labels=[f"{value:,.0f}" for value in middle], padding=4, fontsize=8)
            axes.invert_yaxis()
            axes.margins(x=0.15)
            axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
            axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
            axes.tick_params(left=False, bottom=False, labelbottom=False)
        for axes in every[len(bars) :]:
            axes.set_visible(False)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return written.getvalue()
