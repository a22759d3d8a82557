"""Limits of tenants and of the gateway: who asks too much is told so at once, and nobody else notices."""

from __future__ import annotations

import time

import pytest

from modelport._process import wait_until
from modelport.gateway import quota
from modelport.gateway.gateway import LOGGED_S

TAKEN_S = 0.2  # until Envoy has taken files that were replaced


@pytest.fixture(scope="module")
def front(make_gateway, server):
    return make_gateway(server, concurrency=8)


def test_a_rate_is_kept_over_both_protocols_and_another_tenant_does_not_notice(front, count):
    """A burst of three: the fourth request is refused with 429 and when to come back, whatever it is sent over."""
    hasty, other = front.key("hasty", rate_per_s=0.5, burst=3), front.key("other", rate_per_s=1000.0)
    answers = [front.ask(hasty, ("http", "grpc")[number % 2]) for number in range(5)]
    assert [one.status for one in answers] == [200, 200, 200, 429, 429]
    assert [one.retry_after_s for one in answers[3:]] == [2, 2], "half a request a second"
    assert count(front.at_once(8, other)) == {200: 8}
    assert front.until(200, hasty) < 4


def test_a_change_of_something_else_gives_nobody_a_new_burst(front):
    """A key that is revoked, a model's route: the buckets stay as they were."""
    empty = front.key("empty", rate_per_s=0.001, burst=1)
    assert [front.ask(empty).status for _ in range(2)] == [200, 429]
    gone = front.key("empty")
    assert front.ask(empty).status == 429, "another key of the tenant shares its rate"
    front.revoke(gone)
    assert front.ask(empty).status == 429


def test_a_revoked_key_spends_nothing_of_its_tenants_rate(front):
    """Nor is it told of the rate: a key that leaked must not lock out those that are good."""
    leaked, good = front.key("half", rate_per_s=0.01, burst=2), front.key("half")
    front.revoke(leaked)
    time.sleep(TAKEN_S)
    assert {front.ask(leaked, protocol).status for _ in range(10) for protocol in ("http", "grpc")} == {403}
    assert [front.ask(good).status for _ in range(3)] == [200, 200, 429]


def test_a_tenant_has_so_many_requests_on_their_way_and_no_more(front, count):
    """Two at a time over both protocols together: of ten, two are answered, and the others refused at once with 429."""
    slow, other = front.key("narrow", concurrency=2), front.key("wide")
    for _ in range(3):
        answers = front.at_once(10, slow, model="slow")
        assert count(answers) == {200: 2, 429: 8}
        refused = [one for one in answers if one.status == 429]
        assert max(one.took_s for one in refused) < 1
        assert {one.retry_after_s for one in refused} == {1}
        assert all("at a time" in one.error for one in refused)
    assert count(front.at_once(4, other, model="slow")) == {200: 4}


def test_places_of_callers_that_went_away_are_free_again(front):
    """A caller that does not wait for its answer holds its place no longer than its connection."""
    narrow = front.key("impatient", concurrency=1)
    for protocol in ("http", "grpc"):
        assert front.ask(narrow, protocol, model="slow", timeout_s=0.05).status == 0
        assert front.until(200, narrow, model="slow") < 2


def test_a_limit_that_is_changed_or_taken_away_holds_from_then_on(front, count):
    """No request is lost meanwhile."""
    token = front.key("changing", concurrency=1)
    assert count(front.at_once(4, token, model="slow")) == {200: 1, 429: 3}
    front.key("changing", concurrency=3)
    assert count(front.at_once(4, token, model="slow")) == {200: 3, 429: 1}
    front.key("changing", concurrency=None)
    assert count(front.at_once(4, token, model="slow")) == {200: 4}


def test_what_is_beyond_the_servers_is_refused_with_503_at_once(front, count):
    """Eight places for all together: of sixteen over one protocol, eight are refused, and told when to come."""
    token = front.key("many")
    for protocol in ("http", "grpc"):
        answers = front.at_once(16, token, [protocol], model="slow")
        assert count(answers) == {200: 8, 503: 8}, protocol
        refused = [one for one in answers if one.status == 503]
        assert max(one.took_s for one in refused) < 1
        assert {one.retry_after_s for one in refused} == {1}
    assert front.ask(token).status == 200


class Day:
    """The day, as a test wants it."""

    def __init__(self) -> None:
        self.day = time.strftime("%Y-%m-%d", time.gmtime())

    def __call__(self) -> str:
        return self.day


@pytest.fixture(scope="module")
def day():
    return Day()


@pytest.fixture(scope="module")
def counted(make_gateway, server, day, tmp_path_factory):
    """A gateway of its own files whose day is set, and whose access log is put aside when it is large."""
    folder = tmp_path_factory.mktemp("counted") / "gateway"
    return make_gateway(server, today=day, log_bytes=2000, folder=folder)


def used(front):
    """Inferences of today by tenant, from the log on the disk."""
    time.sleep(0.3)
    return quota.Used(front.gateway.folder, front.gateway.folder / "access.log").look(front.gateway.today())


def test_a_quota_is_kept_to_the_last_request(counted, count):
    """Of twelve requests at once, over both protocols, exactly seven are answered; the others are told: tomorrow."""
    token = counted.key("seven", daily=7)
    answers = counted.at_once(12, token)
    assert count(answers) == {200: 7, 429: 5}
    left_s = 86400 - time.time() % 86400
    assert all(abs(one.retry_after_s - left_s) < 60 for one in answers if one.status == 429)
    assert all("quota" in one.error for one in answers if one.status == 429)
    assert used(counted)["seven"] == 7


def test_what_is_refused_for_another_reason_costs_no_quota(counted, count):
    """A model that does not exist, a wrong key, too high a rate."""
    token = counted.key("refused", daily=2, rate_per_s=0.5, burst=4)
    assert [counted.ask(token, model="nothing").status for _ in range(2)] == [404, 404]
    assert counted.ask(token[:-9]).status == 401
    assert [counted.ask(token).status for _ in range(4)] == [200, 200, 429, 429]
    assert used(counted)["refused"] == 2


def test_a_quota_outlives_the_gateway_and_a_killed_envoy(counted, kill):
    """Stopped and started, and killed with SIGKILL: what was used stays used, also that which is used up."""
    token = counted.key("lasting", daily=6)
    assert [counted.ask(token).status for _ in range(2)] == [200, 200]
    counted.gateway.stop()
    counted.gateway.start()
    assert [counted.ask(token).status for _ in range(2)] == [200, 200]
    time.sleep(LOGGED_S)
    kill(counted.gateway.pid)
    assert wait_until(lambda: not counted.gateway.running, timeout_s=5)
    counted.gateway.start()
    assert [counted.ask(token).status for _ in range(4)] == [200, 200, 429, 429]
    counted.gateway.stop()
    counted.gateway.start()
    assert counted.ask(token).status == 429


def test_a_larger_quota_holds_at_once_and_what_was_used_stays_used(counted):
    """Also where as much is left as there was once before; and what another tenant has left stays the same."""
    token, other = counted.key("growing", daily=2), counted.key("steady", daily=1)
    assert [counted.ask(token).status for _ in range(3)] == [200, 200, 429]
    counted.key("growing", daily=4)
    assert [counted.ask(token).status for _ in range(3)] == [200, 200, 429]
    assert [counted.ask(other).status for _ in range(2)] == [200, 429]
    counted.key("growing", rate_per_s=100.0)
    assert counted.ask(other).status == counted.ask(token).status == 429


def test_an_access_log_that_is_put_aside_counts_once(counted):
    """However often it happens, no request is forgotten, and none counted twice."""
    token = counted.key("logged", daily=1000)
    for number in range(5):
        assert [counted.ask(token).status for _ in range(6)] == [200] * 6
        counted.gateway.tend()
        assert number < 1 or (counted.gateway.folder / "access.log.1").exists()
    assert used(counted)["logged"] == 30
    (counted.gateway.folder / "access.log").unlink()  # as whoever clears up the disk does
    counted.gateway.tend()
    assert counted.ask(token).status == 200
    assert used(counted)["logged"] == 31


def test_a_quota_begins_anew_at_midnight_without_a_restart(counted, day):
    """The same number is left as at the start of the day before: it is a new one nevertheless."""
    token = counted.key("daily", daily=1)
    assert [counted.ask(token).status for _ in range(2)] == [200, 429]
    day.day = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 86400))
    counted.gateway.refresh()
    time.sleep(0.1)
    assert [counted.ask(token).status for _ in range(2)] == [200, 429]
