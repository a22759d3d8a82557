"""Prometheus's configuration and rules: what is written, and what promtool says of it."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
import yaml

from modelport.commands.prometheus import USUAL, prometheus
from modelport.errors import EnvironmentUnfitError, UsageError
from modelport.watching import scrape

CONTAINERS = {"triton": "triton:8002", "gateway": "gateway:8004", "supervisor": "controller:8003"}
SEVERITIES = {"page", "ticket"}


@pytest.fixture
def promtool(require):
    require("promtool")

    def run(*words):
        done = subprocess.run(
            ["promtool", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.fixture(scope="module")
def rules():
    """Every rule of both files."""
    return [
        rule for text in scrape.rules().values() for group in yaml.safe_load(text)["groups"] for rule in group["rules"]
    ]


@pytest.fixture(scope="module")
def deployed(root):
    return root / "deploy" / "prometheus"


def test_what_the_containers_get_is_what_the_command_writes(deployed, tmp_path):
    """`modelport prometheus --write deploy/prometheus --triton triton:8002 ...` renews it."""
    written = scrape.write(tmp_path, CONTAINERS)
    assert {p.relative_to(tmp_path): p.read_text() for p in written} == {
        p.relative_to(deployed): p.read_text() for p in deployed.rglob("*.yml") if p.parent.name != "tests"
    }


def test_promtool_takes_the_configuration_and_the_rules(deployed, promtool, tmp_path):
    done = prometheus(tmp_path, places=USUAL, interval_s=0.25)
    for folder in (deployed, tmp_path):
        code, said = promtool("check", "config", str(folder / "prometheus.yml"))
        assert code == 0 and "2 rule files found" in said, said
    assert done.files[0] == str(tmp_path / "prometheus.yml") and "scrape_interval: 250ms" in (
        (tmp_path / "prometheus.yml").read_text()
    )
    (tmp_path / "rules" / "alerts.yml").write_text("groups: [{name: a, rules: [{alert: A, expr: 'sum('}]}]")
    assert promtool("check", "config", str(tmp_path / "prometheus.yml"))[0] != 0


def test_an_alertmanager_is_named_where_there_is_one(promtool, tmp_path):
    done = prometheus(tmp_path, places=USUAL, alertmanager="alertmanager:9093")
    written = yaml.safe_load((tmp_path / "prometheus.yml").read_text())
    assert written.pop("alerting") == {"alertmanagers": [{"static_configs": [{"targets": ["alertmanager:9093"]}]}]}
    assert done.alertmanager == "alertmanager:9093" and written == yaml.safe_load(scrape.config(USUAL))
    code, said = promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert code == 0, said


def test_the_alertmanager_of_the_page_fits_the_services_of_compose(root):
    """It is reached by Prometheus, under the name that the command gives, and reaches others."""
    page = (root / "docs" / "metrics.md").read_text()
    (text,) = (block for block in re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S) if "alertmanager:" in block)
    added, there = yaml.safe_load(text), yaml.safe_load((root / "docker-compose.yml").read_text())
    ((name, service),) = added["services"].items()
    inside, outside = service["networks"]
    assert name not in there["services"] and f"--{name} {name}:9093" in page
    assert (
        inside in there["services"]["prometheus"]["networks"]
        and outside in added["networks"].keys() - there["networks"]
    )
    assert not added["networks"][outside].get("internal")


def test_the_rules_keep_what_their_tests_promise(deployed, promtool):
    files = sorted(map(str, (deployed / "tests").glob("*.yml")))
    code, said = promtool("test", "rules", *files)
    assert code == 0 and len(files) == 2, said


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("modelport_lost_stubs > 0", "modelport_lost_stubs > 5"),
        ('grpc_status=~"2|4|13|14|15"', 'grpc_status="2"'),
    ],
)
def test_the_rules_tests_notice_a_wrong_rule(deployed, promtool, tmp_path, right, wrong):
    shutil.copytree(deployed, tmp_path / "copy")
    files = list((tmp_path / "copy" / "rules").glob("*.yml"))
    assert sum(right in file.read_text() for file in files) >= 1
    for file in files:
        file.write_text(file.read_text().replace(right, wrong))
    code, said = promtool("test", "rules", *map(str, (tmp_path / "copy" / "tests").glob("*.yml")))
    assert code != 0 and "FAILED" in said


def test_every_rule_has_a_test(deployed, rules):
    """Each figure has a value in one; each alert fires in one, and in one it does not."""
    tests = {name: yaml.safe_load((deployed / "tests" / f"{name}.yml").read_text()) for name in ("recording", "alerts")}
    asked = " ".join(
        e["expr"] for t in tests["recording"]["tests"] for e in t["promql_expr_test"] if "exp_samples" in e
    )
    assert [rule["record"] for rule in rules if "record" in rule and rule["record"] not in asked] == []
    seen = {(a["alertname"], "exp_alerts" in a) for t in tests["alerts"]["tests"] for a in t["alert_rule_test"]}
    assert {(rule["alert"], fires) for rule in rules if "alert" in rule for fires in (True, False)} == seen


def test_every_alert_says_what_it_is_and_where_to_read_what_to_do(root, rules):
    page = (root / "docs" / "metrics.md").read_text()
    headings = {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", page, re.M)}
    for rule in (rule for rule in rules if "alert" in rule):
        said = rule["annotations"]
        assert rule["labels"]["severity"] in SEVERITIES and said["summary"] and said["description"], rule["alert"]
        place, _, anchor = said["runbook_url"].partition("#")
        assert place == "docs/metrics.md" and anchor == rule["alert"].lower() and anchor in headings, rule["alert"]


def test_every_figure_that_is_reckoned_is_described(root, rules):
    page = (root / "docs" / "metrics.md").read_text()
    assert {rule["record"] for rule in rules if "record" in rule and f"`{rule['record']}`" not in page} == set()
    own = {name for rule in rules for name in re.findall(r"\bmodelport_\w+", rule["expr"])}
    assert {name for name in own if f"`{name}`" not in page} == set()


def test_without_a_service_the_usual_places_are_written_and_it_says_so(tmp_path):
    (tmp_path / "models").mkdir()
    done = prometheus(tmp_path / "out", repository=tmp_path / "models")
    assert done.places == USUAL and "no server runs" in done.note


@pytest.mark.parametrize("place", ["triton", "http://triton:8002", 'a:1"]', "a:b", ""])
def test_what_is_no_place_is_one_clear_error(tmp_path, place):
    with pytest.raises(UsageError, match="no place"):
        scrape.write(tmp_path, {"triton": place})
    if place:
        with pytest.raises(UsageError, match="no place of the Alertmanager"):
            scrape.write(tmp_path, USUAL, alertmanager=place)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentUnfitError, match="cannot be written"):
        scrape.write(tmp_path / "file", USUAL)
