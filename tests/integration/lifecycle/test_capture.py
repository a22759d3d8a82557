"""Requests through a real gateway are captured, redacted on the disk, and replayed to versions of the server."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest

from modelport._process import wait_until
from modelport.cli import main
from modelport.client import Client
from modelport.commands import capture as captures
from modelport.commands.replay import replay
from modelport.commands.tagging import alias
from modelport.errors import UsageError, VersionNotFoundError
from modelport.gateway import private
from modelport.gateway.capture.receiver import Receiver
from modelport.gateway.gateway import Gateway
from modelport.gateway.keys import issue
from modelport.gateway.settings import Settings
from modelport.lifecycle.change import promote
from modelport.supervisor import gateway as front

HIDDEN = np.array([[0.7731, 0.4142]], np.float32)


@pytest.fixture
def gate(shelf, server, net):
    """A gateway with a receiver beside it, and `ask(url, token, x)` over all protocols."""
    token = issue.create(shelf.root, "acme", ("*",), expires_s=600, limits={}, now=int(time.time())).token
    receiver = Receiver(shelf.root)
    receiver.start()
    gateway = Gateway(shelf.root, Settings(port=0, workers=1))
    try:
        gateway.start(front.of(server.handle))
        gateway.token, gateway.receiver = token, receiver
        yield gateway
    finally:
        gateway.stop()
        receiver.stop()


def ask(gate, model, x):
    """The same request over gRPC, binary HTTP and JSON; the three have been kept."""
    before, url = gate.receiver.counts.kept, gate.settings.url
    for one in (url, url.replace("http", "grpc")):
        with Client(one, token=gate.token) as client:
            client.infer(model, x=x)
    tensor = {"name": "x", "datatype": "FP32", "shape": x.shape, "data": x.tolist()}
    request = urllib.request.Request(
        f"{url}/v2/models/{model}/versions/1/infer",
        data=json.dumps({"id": "secret-id", "inputs": [tensor]}).encode(),
        headers={"Authorization": f"Bearer {gate.token}", "Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=10).close()
    until = time.monotonic() + 10
    while gate.receiver.counts.kept < before + 3 and time.monotonic() < until:
        time.sleep(0.01)
    assert gate.receiver.counts.kept == before + 3 and gate.receiver.counts.dropped == {}


def everything(repository):
    """All that stands on the disk beside the repository, the logs of Envoy among them."""
    folder = private.folder(repository).parent
    return b"\0".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_captured_requests_are_replayed_and_what_is_redacted_is_nowhere(shelf, net, gate, capsys):
    captures.capture(net, part=1.0, repository=shelf.root)
    gate.refresh()
    ask(gate, net, np.random.default_rng(1).random((2, 2), dtype=np.float32))
    done = replay(net, repository=shelf.root)
    assert (done.same, done.different, done.failed, done.version, dict(done.unusable)) == (3, 0, 0, 1, {})
    shelf.publish(net)
    promote(net, repository=shelf.root)
    alias(net, {"old": 1, "new": 2}, repository=shelf.root)
    assert replay(net, to="old", repository=shelf.root).same == 3
    assert main(["replay", net, "--to", "new", "--json", "-r", str(shelf.root)]) == 20
    said = capsys.readouterr()
    (row,) = json.loads(said.out)["rows"]
    assert (row["captured"], row["same"], row["different"], row["max_abs_error"]) == (1, 0, 3, 1.0)
    assert "are not the captured ones" in said.err
    captures.capture(net, redact=("x",), repository=shelf.root)
    ask(gate, net, HIDDEN)
    shown = captures.show(net, 3, repository=shelf.root).exchanges
    assert [e.marks for e in shown] == [{"input x": "redacted"}] * 3 and not any(e.inputs["x"].any() for e in shown)
    assert sorted(e.protocol for e in shown) == ["grpc", "http", "http"] and all(e.request_id == "" for e in shown)
    assert sorted(e.version for e in shown) == [1, 2, 2]  # the gate names one, the answers name the others
    content = everything(shelf.root)
    assert HIDDEN.tobytes() not in content and b"0.7731" not in content and b"secret-id" not in content
    done = replay(net, to="1", repository=shelf.root)
    assert done.same == 3 and done.unusable == {"an input is redacted": 3}


def test_what_cannot_be_replayed_is_one_clear_error(shelf, net):
    with pytest.raises(UsageError, match="nothing that was captured"):
        replay(net, repository=shelf.root)
    with pytest.raises(UsageError, match="no alias 'nope'"):
        replay(net, to="nope", repository=shelf.root)
    with pytest.raises(VersionNotFoundError):
        replay(net, to="9", repository=shelf.root)


@pytest.fixture
def sleepy(shelf, server, gate):
    """`sleepy(x, spaces)`: a model that waits for row 0, asked in JSON; all that it is asked is captured."""
    shelf.publish("sleepy", python={"execute": "time.sleep(0 if x[0, 0] else 1.5)"}, value=1)
    server.load("sleepy")
    captures.capture("sleepy", part=1.0, repository=shelf.root)
    gate.refresh()
    url = f"{gate.settings.url}/v2/models/sleepy/infer"
    headers = {"Authorization": f"Bearer {gate.token}", "Content-Type": "application/json"}

    def act(x, spaces=0):
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [x, 0]}
        body = json.dumps({"inputs": [tensor]}).encode() + b" " * spaces
        with urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers), timeout=30) as answer:
            return json.load(answer)["outputs"][0]["data"][1] == x

    yield act
    server.unload("sleepy")


def kept_of(shelf, gate, count):
    """What was asked and what was answered, of so many."""
    assert wait_until(lambda: gate.receiver.counts.kept >= count, timeout_s=5), gate.receiver.counts
    time.sleep(0.3)
    shown = captures.show("sleepy", 99, repository=shelf.root).exchanges
    return [(one.inputs["x"][0, 0], one.outputs["y"][0, 1]) for one in shown]


def test_each_of_many_that_wait_is_kept_with_its_own_answer(shelf, gate, sleepy):
    with ThreadPoolExecutor(40) as pool:
        first = pool.submit(sleepy, 0)  # the others wait behind it
        time.sleep(0.2)
        assert all(pool.map(sleepy, range(1, 40))) and first.result()
    found = kept_of(shelf, gate, 40)
    assert sorted(found) == [(x, x) for x in range(40)]


def test_where_those_that_wait_take_too_much_memory_the_oldest_are_not_kept(shelf, gate, sleepy):
    """Six of 14 MB, of which four fit into 64 MiB."""
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(sleepy, 0, 14_000_000)
        time.sleep(0.5)
        assert all(pool.map(sleepy, range(101, 106), [14_000_000] * 5)) and first.result()
    found = [(x, y) for x, y in kept_of(shelf, gate, 4) if x > 100]
    assert gate.receiver.counts.kept == len(found) == 4 and all(x == y for x, y in found)


def test_what_is_refused_after_the_gate_is_not_remembered(shelf, server, net, gate):
    """Beyond a quota: neither on the disk nor in Envoy's memory, where no limit of Envoy's would see it."""
    token = issue.create(shelf.root, "spent", ("*",), expires_s=600, limits={"daily": 1}, now=int(time.time())).token
    captures.capture(net, part=1.0, repository=shelf.root)
    gate.refresh()
    envoy, statuses = psutil.Process(gate.pid), []

    def ask(number):
        body = json.dumps(
            {"id": str(number), "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
        )
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        data = body.encode() + b" " * 10_000_000
        request = urllib.request.Request(f"{gate.settings.url}/v2/models/{net}/infer", data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    statuses = [ask(number) for number in range(12)]
    before = envoy.memory_info().rss
    statuses += [ask(number) for number in range(12, 52)]
    assert statuses == [200] + [429] * 51
    assert envoy.memory_info().rss - before < 100_000_000, "forty of 10 MB"
    assert gate.receiver.counts.kept == 1 and gate.receiver.counts.received == 1
