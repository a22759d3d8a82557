"""Grafana's dashboards are what scripts/dashboards says, and complete: Grafana shows a broken one without a word."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana"
BOARDS = sorted((FOLDER / "dashboards").glob("*.json"))
# Names of Grafana's units; one that it does not know is shown as a word behind the figure.
UNITS = {"none", "short", "reqps", "ops", "percentunit", "µs", "s", "bytes", "Bps", "watt", "joule"}
KINDS = {"timeseries", "stat", "table", "heatmap", "state-timeline", "row"}


def problems(board: dict) -> list[str]:
    """What is wrong with a dashboard."""
    found = []
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    numbers = [panel["id"] for panel in board["panels"]]
    titles = [panel["title"] for panel in panels]
    found += [f"id {one} twice" for one in numbers if numbers.count(one) > 1]
    found += [f"title {one!r} twice" for one in set(titles) if titles.count(one) > 1]
    known = {one["name"] for one in board["templating"]["list"]} | {"__rate_interval", "__range"}
    for panel in board["panels"]:
        name = f"{board['uid']}: {panel['title']}"
        if panel["type"] not in KINDS or not panel["title"]:
            found.append(f"{name}: its type or its title")
        if panel["gridPos"]["x"] + panel["gridPos"]["w"] > 24:
            found.append(f"{name}: it does not fit")
        found += [f"{name}: it covers {other['title']}" for other in board["panels"] if _meet(panel, other)]
    for panel in panels:
        name = f"{board['uid']}: {panel['title']}"
        if len(panel["description"]) < 15:
            found.append(f"{name}: no description")
        if panel["fieldConfig"]["defaults"]["unit"] not in UNITS:
            found.append(f"{name}: no unit, or none of Grafana's")
        if not panel["targets"]:
            found.append(f"{name}: no query")
        for target in panel["targets"]:
            if any(one["datasource"]["uid"] != "${source}" for one in (panel, target)):
                found.append(f"{name}: its source is not the variable")
            unknown = set(re.findall(r"\$(\w+)", target["expr"])) - known
            found += [f"{name}: {one} is no variable" for one in unknown]
    return found


def _meet(one: dict, other: dict) -> bool:
    a, b = one["gridPos"], other["gridPos"]
    apart = (
        a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"] or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
    )
    return one is not other and not apart


def test_the_files_are_what_the_script_writes(root, tmp_path):
    subprocess.run([sys.executable, root / "scripts" / "dashboards", tmp_path], check=True, timeout=30)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert {path.name: path.read_text() for path in BOARDS} == written, "run `make docs` and commit deploy/grafana"


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_complete(path):
    board = json.loads(path.read_text())
    assert problems(board) == []
    assert board["uid"] == path.stem and board["title"] and board["description"]


def test_what_is_wrong_is_found():
    """The check can fail."""
    board = json.loads(BOARDS[0].read_text())
    one, two = (panel for panel in board["panels"][1:3])
    one["description"], one["fieldConfig"]["defaults"]["unit"] = "", "parsecs"
    one["targets"][0]["expr"] = "up{model='$who'}"
    two["id"], two["title"], two["gridPos"] = one["id"], one["title"], one["gridPos"]
    two["datasource"] = {"type": "prometheus", "uid": "abc"}
    said = " ".join(problems(board))
    for word in ("description", "unit", "who is no variable", "id 2 twice", "title", "covers", "source"):
        assert word in said, (word, said)


def test_grafana_finds_the_dashboards_and_where_their_figures_come_from():
    (source,) = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((FOLDER / "provisioning/dashboards/modelport.yml").read_text())["providers"]
    assert (source["type"], source["url"], source["uid"]) == ("prometheus", "${PROMETHEUS_URL}", "modelport")
    assert provider["options"]["path"] == "${MODELPORT_DASHBOARDS}" and not provider["allowUiUpdates"]
    links = {link["url"].removeprefix("/d/") for path in BOARDS for link in json.loads(path.read_text())["links"]}
    assert links == {path.stem for path in BOARDS}
