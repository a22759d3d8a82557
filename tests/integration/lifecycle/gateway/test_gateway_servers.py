"""Several servers behind one gateway: callers do not notice that one of them is killed, or cannot answer."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from urllib.parse import urlsplit

import numpy as np
import pytest

from modelport._process import wait_until
from modelport.client import Client
from modelport.commands import keys

BACK_S = 10.0
X = np.array([[0.5, 0.25]], np.float32)
NET = '{model="net",tenant="acme"}'


@pytest.fixture(scope="module")
def shelf(shelf):
    shelf.publish("net")
    return shelf


def ports_of(server) -> tuple[int, ...]:
    return tuple(urlsplit(url).port for url in (server.http_url, server.grpc_url, server.metrics_url))


@pytest.fixture(scope="module")
def pair(make_server):
    return [make_server(), make_server()]


@pytest.fixture(scope="module")
def front(make_gateway, pair):
    return make_gateway(*pair)


@pytest.fixture(scope="module", autouse=True)
def token(front):
    """What every client of this module sends."""
    given = front.key("acme")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELPORT_TOKEN", given)
        yield given


def answered(front) -> dict[str, int]:
    """Requests that each server was sent, by protocol and port."""
    text = front.gateway.admin.ask("GET", "/clusters")
    found = re.findall(r"^(triton_\w+)::[\d.]+:(\d+)::rq_total::(\d+)$", text, re.MULTILINE)
    return {f"{cluster}:{port}": int(count) for cluster, port, count in found}


def grown(front, before) -> int:
    """Servers, of each protocol one, that were sent requests since."""
    return sum(count > before.get(name, 0) for name, count in answered(front).items())


def test_the_load_is_spread_over_all(front, callers):
    """Each server is sent requests, over both protocols."""
    with callers(front, "net") as load:
        load.wait(100)
    assert load.violations([1.0]) == []
    counts = answered(front)
    assert len(counts) == 4 and min(counts.values()) > 0.2 * max(counts.values()), counts


def test_killing_one_of_two_loses_no_request_and_it_comes_back(front, pair, make_server, callers, kill):
    """SIGKILL under load over HTTP and gRPC: no request fails; started again, it is sent requests within ten s."""
    ports = ports_of(pair[1])
    with callers(front, "net") as load:
        load.wait(100)
        kill(pair[1].pid)
        load.wait(400)
        lost = load.violations([1.0])
        pair[1].stop()
        pair[1] = make_server(ports)
        before, began = answered(front), time.monotonic()
        assert wait_until(lambda: grown(front, before) == 4, timeout_s=BACK_S), answered(front)
        took_s = time.monotonic() - began
        load.wait(50)
    longest_s = max(one.came - one.sent for one in load.answers)
    print(f"{len(load.answers)} requests, back after {took_s:.1f} s; longest {longest_s:.2f} s")
    assert lost == load.violations([1.0]) == []


def test_without_another_server_the_same_loss_is_seen(make_gateway, make_server, callers, kill, tmp_path):
    """Negative control: behind a gateway with that server alone, requests fail."""
    alone = make_server()
    front = make_gateway(alone, folder=tmp_path / "gateway")
    with callers(front, "net") as load:
        load.wait(50)
        kill(alone.pid)
        load.wait(20)
    assert load.violations([1.0])


def test_a_server_that_cannot_answer_the_golden_request_gets_none(
    make_gateway, make_server, pair, callers, tmp_path, token
):
    """It lives and is ready, but has not loaded the model: nobody is sent there, until it has."""
    empty = make_server(models=())
    front = make_gateway(pair[0], empty, folder=tmp_path / "gateway")
    with callers(front, "net") as load:
        load.wait(100)
        assert {
            count for name, count in answered(front).items() if int(name.rpartition(":")[2]) in ports_of(empty)
        } == {0}
        empty.load("net")
        before = answered(front)
        assert wait_until(lambda: grown(front, before) == 4, timeout_s=BACK_S), answered(front)
        load.wait(50)
    assert load.violations([1.0]) == []


@contextmanager
def hanging(pid: int):
    """It answers nothing meanwhile, and its connections stay."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def slow(load, above_s: float) -> list[str]:
    """Requests that took longer, by protocol."""
    return [f"{one.protocol} {one.came - one.sent:.2f} s" for one in load.answers if one.came - one.sent > above_s]


def test_what_a_server_that_hangs_has_got_is_answered_by_another_one(make_gateway, pair, callers, tmp_path):
    """SIGSTOP under load over HTTP and gRPC: nobody waits much longer than until another one is asked as well."""
    front = make_gateway(*pair, folder=tmp_path / "gateway", another_s=1.0)
    with callers(front, "net") as load:
        load.wait(100)
        with hanging(pair[0].pid):
            time.sleep(2.5)
        load.wait(100)
    assert load.violations([1.0]) == []
    waited = slow(load, 0.9)
    assert {one.partition(" ")[0] for one in waited} == {"http", "grpc"}, "it did hang"
    assert slow(load, 2.5) == []


def test_an_inference_that_takes_long_is_not_cut_when_another_server_is_asked(
    make_gateway, pair, shelf, token, tmp_path
):
    shelf.publish("waits", python={"execute": "time.sleep(1.2)"}, batch=1)
    for one in pair:
        one.load("waits")
    front = make_gateway(*pair, folder=tmp_path / "gateway", another_s=0.5)
    for protocol in ("http", "grpc"):
        got = front.ask(token, protocol, model="waits")
        assert (got.status, got.value) == (200, 1.0) and got.took_s >= 1.2


@pytest.mark.soak
def test_a_server_that_hangs_for_longer_is_left_out_and_comes_back(make_gateway, pair, callers, tmp_path):
    """With the usual times: nobody waits longer than 6 s, after the health checks nobody at all."""
    front = make_gateway(*pair, folder=tmp_path / "gateway")
    with callers(front, "net") as load:
        load.wait(100)
        with hanging(pair[0].pid):
            time.sleep(10)
            checked = time.monotonic()
            time.sleep(10)
        before = answered(front)
        assert wait_until(lambda: grown(front, before) == 4, timeout_s=BACK_S), answered(front)
    print(f"{len(load.answers)} requests, slow: {slow(load, 0.9)}")
    assert load.violations([1.0]) == []
    assert slow(load, 4.5) != [] and slow(load, 6.0) == []
    assert [one for one in load.answers if one.sent > checked and one.came - one.sent > 1.0] == []


@pytest.mark.soak
def test_where_no_other_server_is_asked_callers_of_one_that_hangs_wait(make_gateway, pair, callers, tmp_path):
    """Negative control."""
    front = make_gateway(*pair, folder=tmp_path / "gateway", another_s=0)
    with callers(front, "net") as load:
        load.wait(100)
        with hanging(pair[0].pid):
            time.sleep(10.5)
    assert any("did not answer within 10 s" in one for one in load.violations([1.0]))


def text_at(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def test_the_command_tells_prometheus_what_callers_got(shelf, pair, tmp_path):
    """Where the servers are somebody else's there is no supervisor to ask."""
    root = tmp_path / "model_repository"
    shutil.copytree(shelf.root, root)
    token = keys.create("acme", ["*"], repository=root).token
    urls = [f"--upstream={one.http_url},{one.grpc_url.replace('http', 'grpc', 1)}" for one in pair]
    ports = ["--gateway-port=0", "--gateway-metrics-port=0", "--health-port=0"]
    command = [sys.executable, "-m", "modelport", "gateway", "--plain", *urls, *ports, f"--repository={root}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            said = "".join(itertools.takewhile(lambda line: "Ctrl-C" not in line, running.stdout))
            url, page = re.search(r"gateway at (\S+),", said)[1], re.search(r"metrics +(\S+)", said)[1]
            with Client(url, token=token) as client:
                client.infer("net", x=X)
            # Envoy writes its log every 10 ms.
            assert wait_until(lambda: f"modelport_inferences_total{NET} 1.0" in text_at(page), timeout_s=5)
            text = text_at(page)
        finally:
            running.send_signal(signal.SIGINT)
        assert running.wait(20) == 0
    assert "modelport_gateway_up 1.0" in text and "modelport_server_up" not in text
