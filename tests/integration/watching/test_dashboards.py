"""Prometheus over a real service: all is asked, every rule and every query of every panel gives data, or the panel says
why not; and `modelport top`."""

from __future__ import annotations

import fcntl
import http.client
import json
import math
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from modelport._process import wait_until
from modelport.commands import keys
from modelport.commands.policy import latency_budget
from modelport.commands.prometheus import prometheus as write
from modelport.watching import scrape

FOLDER = Path(__file__).parents[3] / "deploy" / "grafana" / "dashboards"
FILLED = {"model": "net", "tenant": "acme", "__rate_interval": "5s", "__range": "1m"}
PANELS = [
    (board["uid"], panel)
    for board in (json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json")))
    for panel in board["panels"]
    if panel["type"] != "row"
]
# What this service really lacks: panels that are empty here, and say so.
LACKING = {"Triton sees no GPU", "all that was copied in was taken", "the gateway speaks plain HTTP, or none runs"}
LACKING |= {"it runs in the server's own process"}
FALLBACK = re.compile(r" or 0 \* (?:sum|count)\([^()]*\)")
NAME = re.compile(r"\b(?:(?:modelport|nv|envoy|scrape)_\w+|ALERTS|up|\w+:\w+:\w+)\b(?!\s*[=!~])")
# Names that may be misspelt without a trace, and why.
UNNOTICED = {"ALERTS": "there is no such series while no alert is pending or firing"}
END_OF_SCREEN = b"\x1b[?1049l"


@pytest.fixture(scope="module")
def asked(service):
    """The service, while callers of all kinds ask it."""
    latency_budget("net", ms=20, repository=service.root)
    token = keys.create("acme", ["*"], limits={"daily": 100_000}, repository=service.root).token
    service.until(token)
    ended = threading.Event()

    def ask():
        while not ended.wait(0.1):
            for grpc in (False, True):
                service.ask(token, grpc=grpc, n=2)  # version 2 serves
                service.ask(token, grpc=grpc, version=1)
                service.ask(token, grpc=grpc, failing=True)
            service.ask_wrong(token, model="nope")
            service.ask_wrong(token)

    callers = threading.Thread(target=ask)
    callers.start()
    yield service
    ended.set()
    callers.join()


@pytest.fixture(scope="module")
def watched(prometheus, asked, tmp_path_factory):
    """Prometheus over it, which takes each page for those of two instances: no rule and no query may stumble."""
    folder = tmp_path_factory.mktemp("config")
    write(folder, repository=asked.root, interval_s=0.5)
    config = folder / "prometheus.yml"
    config.write_text(re.sub(r"( +- targets: .*\n)", r"\1\1        labels: {instance: other}\n", config.read_text()))
    running = prometheus(folder)
    for query in LAST:
        running.until(filled(query))
    return running


LAST = [
    "sum(rate(modelport_request_seconds_count{model='$model'}[$__rate_interval])) > 0",
    "sum(rate(nv_inference_request_success{model='$model',version='1'}[$__rate_interval])) > 0",
    "sum(rate(modelport_requests_total{model='$model',code='200',grpc_status='3'}[$__rate_interval])) > 0",
    "rate(modelport_events_total[$__rate_interval]) and on () modelport_latency_budget_seconds",
]


def filled(query: str) -> str:
    """A query as Grafana sends it."""
    return re.sub(r"\$(\w+)", lambda found: FILLED[found[1]], query)


def values(prometheus, query):
    """What a query gives now."""
    return [value for _, value in prometheus.query(filled(query)) if not math.isnan(value)]


def expressions():
    """Every query of every panel, with where it stands."""
    return [(f"{board}: {panel['title']}", target["expr"]) for board, panel in PANELS for target in panel["targets"]]


def misspelt(query):
    """The query with each name of a metric in turn misspelt, by that name."""
    return {name: re.sub(rf"\b{name}\b", f"{name}x", query) for name in NAME.findall(query)}


def empty(prometheus, panels):
    """Queries that give nothing, with what the panel says about that."""
    found = {}
    for board, panel in panels:
        for target in panel["targets"]:
            if not values(prometheus, target["expr"]):
                found[f"{board}: {panel['title']}: {target['expr']}"] = panel["fieldConfig"]["defaults"]["noValue"]
    return found


def test_every_panel_shows_data_or_why_not(watched):
    nothing = empty(watched, PANELS)
    assert {query: why for query, why in nothing.items() if why not in LACKING} == {}


def test_a_panel_without_data_is_found(watched):
    board, panel = next(one for one in PANELS if one[1]["title"] == "Answers")
    wrong = {**panel, "targets": [{"expr": "sum(rate(modelport_request_total[$__rate_interval]))"}]}
    assert len(empty(watched, [(board, wrong)])) == 1


def test_a_zero_that_stands_for_nothing_is_not_all_that_a_panel_can_show(watched):
    """There are answers, refusals and failures, over HTTP and gRPC: each is found without what stands in for it."""
    found = {
        (place, query): values(watched, FALLBACK.sub("", query))
        for place, query in expressions()
        if FALLBACK.search(query) and "ALERTS" not in query
    }
    assert len(found) == 12 and {one: got for one, got in found.items() if not got or min(got) <= 0} == {}


def test_a_misspelt_metric_and_one_that_is_away_show_nothing(watched):
    """And no zero, which would look as if all were well."""
    names = {(place, query): misspelt(query) for place, query in expressions()}
    assert [one for one, found in names.items() if not found] == []
    shown = {
        (place, name): got
        for (place, _), found in names.items()
        for name, query in found.items()
        if (got := values(watched, query))
    }
    assert {name for _, name in shown} == UNNOTICED.keys(), shown
    (wrong,) = misspelt("sum(rate(modelport_requests_total[$__rate_interval])) or vector(0)").values()
    assert values(watched, wrong) == [0], "the check can fail"


def test_two_supervisors_serve_no_more_versions_than_one(watched):
    (table,) = (panel for _, panel in PANELS if panel["title"] == "What is served")
    assert [values(watched, target["expr"]) for target in table["targets"][:3]] == [[2], [2], [1]]


def test_the_variables_offer_what_there_is(watched):
    offered = {}
    for path in FOLDER.glob("*.json"):
        for one in json.loads(path.read_text())["templating"]["list"]:
            if found := re.fullmatch(r"label_values\((.+), (\w+)\)", one.get("definition", "")):
                offered[one["name"]] = watched.ask(f"label/{found[2]}/values", **{"match[]": found[1]})
    assert offered == {"model": ["net"], "tenant": ["acme"]}


def test_shares_are_those_of_the_versions(watched):
    (shares,) = (panel for _, panel in PANELS if panel["title"] == "Shares")
    found = {labels["version"]: value for labels, value in watched.query(filled(shares["targets"][0]["expr"]))}
    assert found.keys() == {"1", "2"} and min(found.values()) > 0


def run_top(service, *words):
    command = [sys.executable, "-m", "modelport", "top", "--repository", service.root, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


def test_top_tells_a_script_the_same(asked):
    told = json.loads(run_top(asked, "--json", "--interval", "1"))
    (net,), (acme,) = told["models"], told["tenants"]
    one, two = (version["work"] for version in net["versions"])
    assert one["requests_per_s"] > 0 and two["requests_per_s"] > one["requests_per_s"]
    assert net["work"]["requests_per_s"] == pytest.approx(one["requests_per_s"] + two["requests_per_s"])
    assert (net["serving"], net["ready"], told["ready"], told["quantiles"]) == (2, True, True, "gateway")
    assert 0 < net["seen"]["p50_ms"] <= net["seen"]["p99_ms"] and net["work"]["mean_batch"] == 1
    assert acme["tenant"] == "acme" and acme["seen"]["requests_per_s"] > net["seen"]["requests_per_s"] > 0
    assert acme["seen"]["refused_per_s"] > 0 and acme["seen"]["failed_per_s"] > 0
    assert 0 < told["cpu"] <= 1 and told["gpus"] == [] and told["away"] == {}


def test_top_prints_once_where_there_is_no_terminal_and_reads_any_page(asked):
    text = run_top(asked, "--url", asked.url("metrics"), "--interval", "0.5")
    assert "net" in text and "acme" not in text and "\x1b" not in text
    assert "no p50 and p99: they are the gateway's" in text


@pytest.mark.parametrize("ending", [b"q", b"\x03"], ids=["q", "Ctrl-C"])
def test_top_shows_it_live_and_leaves_the_terminal_as_it_was(asked, ending):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before, seen = termios.tcgetattr(theirs), b""
    command = [sys.executable, "-m", "modelport", "top", "--repository", str(asked.root), "--interval", "0.2"]
    with subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0),
    ) as top:
        deadline = time.monotonic() + 20
        while seen.count(b"acme") < 3 and time.monotonic() < deadline:
            seen += os.read(ours, 65536) if select.select([ours], [], [], 0.2)[0] else b""
        os.write(ours, ending)
        while top.poll() is None and time.monotonic() < deadline:
            seen += os.read(ours, 65536) if select.select([ours], [], [], 0.1)[0] else b""
        assert top.returncode == 0, seen.decode()
    while select.select([ours], [], [], 0)[0]:
        seen += os.read(ours, 65536)
    assert termios.tcgetattr(theirs) == before
    assert seen.count(b"acme") >= 3 and b"net" in seen
    assert seen.endswith(END_OF_SCREEN) and b"Traceback" not in seen
    os.close(ours)
    os.close(theirs)


def test_all_is_asked_and_every_recording_rule_yields_data(watched):
    """With what `modelport prometheus` writes for the service that runs."""
    assert watched.targets() == dict.fromkeys(scrape.JOBS, "up")
    rules = [rule for rule in watched.rules() if rule["type"] == "recording"]
    assert len(rules) > 20 and {rule["health"] for rule in watched.rules()} == {"ok"}
    assert {rule["name"] for rule in rules if not watched.query(f"last_over_time({rule['name']}[1m])")} == set()


def test_a_quota_that_is_used_up_fires_its_alert_and_no_other(asked, watched):
    token = keys.create("small", ["*"], limits={"daily": 3}, repository=asked.root).token
    assert wait_until(lambda: asked.ask(token) == 0, timeout_s=10)
    alerts = [alert for alert, _ in watched.until('ALERTS{alertstate="firing"}')]
    found = {(alert["alertname"], alert["tenant"], alert["severity"]) for alert in alerts}
    assert found == {("ModelportQuotaNearEnd", "small", "ticket")}
    (count,) = (query for _, query in expressions() if "ALERTS" in query)
    assert max(values(watched, FALLBACK.sub("", count))) >= 1
    watched.until('max(modelport_quota_left{tenant="small"}) == 0')  # Prometheus asks the same page as two


def test_the_gateway_hands_out_its_figures_and_nothing_else_of_its_administration(asked):
    """No other page, method or query; and nobody without a key makes a series."""
    url = json.loads(asked.page("status"))["gateway"]["metrics_url"]
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.netloc, timeout=5)
    found = {}
    wrong = (
        "/",
        "/stats",
        "/metrics?filter=x",
        "/metrics/",
        "/metrics/../stats",
        "//metrics",
        "/config_dump",
        "/METRICS",
    )
    for method, path in [("GET", path) for path in wrong] + [("POST", "/metrics"), ("POST", "/quitquitquit")]:
        connection.request(method, path)
        answer = connection.getresponse()
        found[method, path] = answer.status, answer.read()
    assert {status for status, _ in found.values()} == {404} and {body for _, body in found.values()} == {b""}
    for token in ("", "a.b.c"):
        assert asked.ask(token, model="made-up") == 0
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    connection.close()
    assert "made-up" not in page and 'tenant="' not in page and "envoy_http_downstream_rq_xx" in page
    assert 'envoy_cluster_name="tenant' not in page and len(page) < 300_000
    assert "envoy_filesystem_write_failed{} 0" in page, "an alert asks for it"
