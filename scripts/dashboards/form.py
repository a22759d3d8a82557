"""The JSON form of a Grafana dashboard, made from few words: what the other modules describe is written out here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
WIDTH = 24  # columns of Grafana's grid
SCHEMA = 39  # Grafana 11; later ones take it over
SOURCE = {"type": "prometheus", "uid": "${source}"}
GOOD, BAD, WARN = "green", "red", "orange"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel.

    Attributes:
        title: What it shows, in two or three words.
        text: What it means, and what to do when it looks wrong.
        unit: Grafana's name of the unit.
        queries: Pairs of PromQL and the legend of its series; for a table, of PromQL and the column's heading.
        kind: `timeseries`, `stat`, `table`, `heatmap`, `state-timeline`.
        width: In columns of the grid.
        height: In rows of it.
        stack: `normal` puts series on each other, `percent` shows shares.
        empty: Why it may hold nothing at all; shown in its place. Empty for one that always has data.
        steps: Pairs of a value and the colour from there on; the first colour holds below the first value.
        names: Words for values, with their colours.
        hidden: Labels that a table does not show.
    """

    title: str
    text: str
    unit: str
    queries: Sequence[tuple[str, str]]
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    stack: str = "none"
    empty: str = ""
    steps: Sequence[tuple[float | None, str]] = ((None, GOOD),)
    names: Sequence[tuple[str, str, str]] = ()
    hidden: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """One dashboard: rows of panels under their headings.

    Attributes:
        uid: Its name in URLs, and of its file.
        title: As people see it.
        text: What it answers.
        rows: Heading to panels.
        variables: Name to the query that gives its values.
    """

    uid: str
    title: str
    text: str
    rows: Sequence[tuple[str, Sequence[Panel]]]
    variables: Sequence[tuple[str, str]] = field(default=())


def stat(title: str, text: str, unit: str, query: str, **options: Any) -> Panel:
    """One figure."""
    return Panel(
        **{"title": title, "text": text, "unit": unit, "queries": [(query, "")], "kind": "stat", **_FIGURE, **options}
    )


_FIGURE = {"width": 4, "height": 4}


def form(board: Dashboard, others: Sequence[Dashboard]) -> Json:
    """The dashboard as Grafana reads it."""
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.text,
        "tags": ["modelport"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_source(), *(_variable(*one) for one in board.variables)]},
        "annotations": {"list": [_alerts()]},
        "links": [_link(other) for other in others if other.uid != board.uid],
        "panels": list(_placed(board.rows)),
    }


def _placed(rows: Sequence[tuple[str, Sequence[Panel]]]) -> Iterator[Json]:
    number, top = 0, 0
    for heading, panels in rows:
        number += 1
        place = {"x": 0, "y": top, "w": WIDTH, "h": 1}
        yield {"id": number, "type": "row", "title": heading, "collapsed": False, "panels": [], "gridPos": place}
        left, top, line = 0, top + 1, 0
        for panel in panels:
            if left + panel.width > WIDTH:
                left, top, line = 0, top + line, 0
            number += 1
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            yield {"id": number, "gridPos": place, **_panel(panel)}
            left, line = left + panel.width, max(line, panel.height)
        top += line


def _panel(panel: Panel) -> Json:
    text = panel.text + (f"\n\nEmpty: {panel.empty}." if panel.empty else "")
    steps = [{"value": value, "color": colour} for value, colour in panel.steps]
    defaults: Json = {
        "unit": panel.unit,
        "noValue": panel.empty or "no data",
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "mappings": _names(panel.names),
        "custom": _custom(panel),
    }
    if panel.unit == "percentunit" and panel.kind == "timeseries":
        defaults |= {"min": 0, "max": 1}
    made: Json = {
        "type": panel.kind,
        "title": panel.title,
        "description": text,
        "datasource": SOURCE,
        "targets": [_target(panel, *each) for each in zip("ABCDEFGH", panel.queries)],  # noqa: B905 - fewer queries
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _OPTIONS[panel.kind],
    }
    if panel.kind == "table":
        made["transformations"] = _table(panel)
    return made


def _target(panel: Panel, letter: str, query: tuple[str, str]) -> Json:
    expression, legend = query
    once = panel.kind in ("table", "stat")
    form = {"table": "table", "heatmap": "heatmap"}.get(panel.kind, "time_series")
    return {
        "refId": letter,
        "datasource": SOURCE,
        "editorMode": "code",
        "expr": re.sub(r"\s+", " ", expression).strip(),
        "legendFormat": "{{le}}" if panel.kind == "heatmap" else "" if panel.kind == "table" else legend or "__auto",
        "format": form,
        "instant": once,
        "range": not once,
    }


def _table(panel: Panel) -> list[Json]:
    """One line for each set of labels, with the figures of all queries."""
    columns = {f"Value #{letter}": legend for letter, (_, legend) in zip("ABCDEFGH", panel.queries)}  # noqa: B905
    if len(columns) == 1:
        columns = {"Value": next(iter(columns.values()))}
    hidden = dict.fromkeys(("Time", "instance", "job", "__name__", *panel.hidden), True)
    named = {name: heading for name, heading in columns.items() if heading}
    hidden |= {name: True for name, heading in columns.items() if not heading}
    return [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": hidden, "indexByName": {}, "renameByName": named}},
    ]


def _names(names: Sequence[tuple[str, str, str]]) -> list[Json]:
    if not names:
        return []
    words = {value: {"index": i, "text": text, "color": colour} for i, (value, text, colour) in enumerate(names)}
    return [{"type": "value", "options": words}]


def _custom(panel: Panel) -> Json:
    if panel.kind == "timeseries":
        return {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 10 if panel.stack == "none" else 40,
            "showPoints": "auto",
            "spanNulls": False,
            "stacking": {"mode": panel.stack, "group": "A"},
        }
    if panel.kind == "state-timeline":
        return {"lineWidth": 0, "fillOpacity": 70}
    return {}


_LEGEND = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
_OPTIONS: dict[str, Json] = {
    "timeseries": {"legend": _LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "textMode": "auto",
        "orientation": "auto",
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
    "state-timeline": {
        "mergeValues": True,
        "showValue": "auto",
        "alignValue": "left",
        "rowHeight": 0.8,
        "legend": _LEGEND,
    },
    "heatmap": {
        "calculate": False,
        "yAxis": {"unit": "s", "axisPlacement": "left"},
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "fill": "dark-orange"},
        "cellGap": 1,
        "rowsFrame": {"layout": "auto"},
        "tooltip": {"mode": "single", "yHistogram": False},
        "legend": {"show": True},
        "showValue": "never",
    },
}


def _source() -> Json:
    return {
        "name": "source",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "hide": 0,
    }


def _variable(name: str, values: str) -> Json:
    return {
        "name": name,
        "label": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": values, "refId": "values"},
        "definition": values,
        "refresh": 2,  # whenever the time changes
        "sort": 1,
        "hide": 0,
        "multi": False,
        "includeAll": False,
    }


def _alerts() -> Json:
    return {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertstate="firing"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{model}} {{tenant}}",
        "step": "30s",
    }


def _link(board: Dashboard) -> Json:
    return {
        "title": board.title.removeprefix("modelport: "),
        "type": "link",
        "url": f"/d/{board.uid}",
        "icon": "dashboard",
        "keepTime": True,
        "includeVars": True,
        "targetBlank": False,
        "tooltip": board.text,
        "tags": [],
        "asDropdown": False,
    }
