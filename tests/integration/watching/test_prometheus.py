"""Real Prometheus over `modelport serve --gateway`: what it asks answers, and every rule gives what it says."""

from __future__ import annotations

import pytest

from modelport.commands import keys
from modelport.commands.policy import latency_budget
from modelport.commands.prometheus import prometheus as write
from modelport.watching import scrape

ASKED = 20
DAILY = 25


@pytest.fixture(scope="module")
def tokens(service):
    """Of `acme`, and of `small`, which has a quota."""
    latency_budget("net", ms=20, repository=service.root)
    made = {
        name: keys.create(name, ["*"], limits=limits, repository=service.root).token
        for name, limits in (("acme", {}), ("small", {"daily": DAILY}))
    }
    for token in made.values():
        service.until(token)
    return made


@pytest.fixture(scope="module")
def watched(service, tokens, prometheus, tmp_path_factory):
    """Prometheus, with the configuration that `modelport prometheus` writes, after calls of all kinds."""
    folder = tmp_path_factory.mktemp("config")
    done = write(folder, repository=service.root, interval_s=0.5)
    assert done.places.keys() == set(scrape.JOBS) and not done.note
    running = prometheus(folder)
    running.until("count(up == 1) == 3")
    for grpc in (False, True):
        assert service.ask(tokens["acme"], grpc=grpc, n=ASKED) == ASKED
        assert service.ask(tokens["acme"], grpc=grpc, version=1, n=ASKED) == ASKED
        service.ask(tokens["small"], grpc=grpc, n=ASKED)
        assert service.ask(tokens["acme"], grpc=grpc, model="nope") == 0
    running.until(
        "tenant:latency_seconds:quantile5m > 0 and on () version:share:ratio5m and on () service:error_ratio:rate5m"
    )
    return running


def test_all_three_are_asked_and_answer(watched):
    assert watched.targets() == dict.fromkeys(scrape.JOBS, "up")


def test_every_recording_rule_yields_data(watched):
    rules = [rule for rule in watched.rules() if rule["type"] == "recording"]
    assert len(rules) > 20
    missing = {rule["name"] for rule in rules if not watched.query(f"last_over_time({rule['name']}[1m])")}
    assert missing == set() and {rule["health"] for rule in rules} == {"ok"}
