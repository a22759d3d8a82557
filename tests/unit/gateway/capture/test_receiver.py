"""The receiver takes what comes over a real socket, keeps it redacted, drops what is too much, and never waits."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time

import numpy as np
import pytest

from modelport.errors import EnvironmentUnfitError, RepositoryError
from modelport.gateway import private
from modelport.gateway.capture import keeper, patterns, receiver, secret, stored
from modelport.gateway.capture.decoding import decode
from modelport.gateway.capture.receiver import Receiver
from modelport.gateway.capture.stored import Rule
from modelport.repository import events

TEXT = np.array(["call SECRET-1234 now"], object)


class Gate(http.client.HTTPConnection):
    """Sends pairs as Envoy does, over one connection."""

    def __init__(self, repository):
        super().__init__("capture", timeout=5)
        self._at = private.folder(repository, receiver.SOCKET)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        with private.socket_name(self._at) as name:
            self.sock.connect(name)

    def send_pair(self, pair):
        self.request("POST", "/", pair.body, dict(pair.headers))
        answer = self.getresponse()
        answer.read()
        return answer.status


@contextlib.contextmanager
def receiving(repository, **options):
    one = Receiver(repository, **options)
    one.start()
    try:
        yield one
    finally:
        one.stop()
        assert not one.alive()


def wait(condition, seconds=5.0):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    assert condition()


@pytest.fixture
def ruled(repository):
    """A repository with a rule for `net`."""
    stored.put(repository, Rule(model="net", part=1.0, redact=(r"re:[A-Z]{6}-\d+",)))
    return repository


def everything(repository):
    folder = private.folder(repository)
    return b"\0".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_pairs_of_all_forms_are_kept_redacted_and_encrypted(ruled, pair, x):
    with receiving(ruled) as one:
        gate = Gate(ruled)
        for form in ("json", "binary", "grpc"):
            assert gate.send_pair(pair({"x": x, "t": TEXT}, {"y": x}, form=form, id="SECRET-id")) == 200
        wait(lambda: one.counts.kept == 3)
        assert b"SECRET" not in everything(ruled) and b"call" not in everything(ruled)
    found = list(keeper.read(ruled, "net", secret.read(ruled)))
    assert [e.protocol for e in found] == ["http", "http", "grpc"]
    assert all(e.inputs["t"].tolist() == ["call [redacted] now"] and np.array_equal(e.outputs["y"], x) for e in found)
    assert all(abs(e.at - time.time()) < 60 and e.request_id == "" for e in found)
    assert b"SECRET" not in everything(ruled) and b"call" not in everything(ruled)
    assert receiver.told(ruled).kept == 3


def test_socket_and_folders_are_for_the_owner_alone_and_the_socket_goes(ruled):
    path = private.folder(ruled, receiver.SOCKET)
    path.parent.mkdir(parents=True, exist_ok=True)
    with receiving(ruled):
        assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert not path.exists()


def test_one_that_was_killed_left_its_socket_which_is_no_hindrance(ruled, pair, x):
    path = private.folder(ruled, receiver.SOCKET)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with receiving(ruled):
        assert Gate(ruled).send_pair(pair({"x": x}, None)) == 200


def test_without_a_rule_nothing_is_kept_and_a_rule_holds_at_once(ruled, pair, x):
    with receiving(ruled) as one:
        gate = Gate(ruled)
        gate.send_pair(pair({"x": x}, None))
        wait(lambda: one.counts.kept == 1)
        stored.remove(ruled, "net")
        gate.send_pair(pair({"x": x}, None))
        wait(lambda: one.counts.dropped == {"no rule": 1})
        stored.put(ruled, Rule(model="net", part=1.0, redact=("x",)))
        gate.send_pair(pair({"x": x}, None))
        wait(lambda: one.counts.kept == 2)
    assert [bool(e.inputs["x"].any()) for e in keeper.read(ruled, "net", secret.read(ruled))] == [True, False]


def test_what_cannot_be_decoded_is_dropped_and_counted(ruled, pair, x):
    asked = pair({"t": TEXT}, None)
    with receiving(ruled) as one:
        gate = Gate(ruled)
        gate.request("POST", "/", b"SECRET" * 10, dict(asked.headers))
        assert gate.getresponse().read() == b""
        wait(lambda: one.counts.dropped == {"cannot be decoded": 1})
        assert gate.send_pair(pair({"x": x}, None)) == 200
        wait(lambda: one.counts.kept == 1)
    assert b"SECRET" not in everything(ruled)


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n", b"x" * 20000]
)
def test_what_is_no_call_of_the_gate_ends_its_connection_and_nothing_else(ruled, pair, x, sent):
    with receiving(ruled) as one, socket.socket(socket.AF_UNIX) as other:
        other.connect(str(private.folder(ruled, receiver.SOCKET)))
        other.settimeout(5)
        other.sendall(sent)
        assert b" 400 " in other.recv(1000)
        assert Gate(ruled).send_pair(pair({"x": x}, None)) == 200
        wait(lambda: one.counts.kept == 1)
        assert one.counts.dropped == {"no request of the gate": 1}


def test_a_body_that_is_too_large_is_dropped_and_the_next_is_taken(ruled, pair, x):
    with receiving(ruled, body_most=100_000) as one:
        gate = Gate(ruled)
        assert gate.send_pair(pair({"x": np.zeros((1, 100_000), np.float32)}, None)) == 503
        assert gate.send_pair(pair({"x": x}, None)) == 200
        wait(lambda: one.counts.kept == 1)
    assert one.counts.dropped == {"too large": 1}


def test_what_is_too_much_is_dropped_at_once_and_counted(repository, pair):
    """A rule whose search takes long: few wait for it, and the others are refused."""
    stored.put(repository, Rule(model="net", part=1.0, redact=("re:a+b",)))
    slow = pair({"t": np.array(["a" * patterns.LONGEST], object)}, None)
    with receiving(repository, waiting_most=2) as one:
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                call = stack.enter_context(contextlib.closing(Gate(repository)))
                call.request("POST", "/", slow.body, dict(slow.headers))
            wait(lambda: one.counts.received == 8)
        wait(lambda: one.counts.kept + sum(one.counts.dropped.values()) == 8)
        assert one.counts.kept >= 2 and one.counts.dropped == {"queue full": 8 - one.counts.kept}
        assert one.counts.kept < 8


def test_what_has_come_is_kept_when_it_stops(ruled, pair, x):
    with receiving(ruled) as one:
        gate = Gate(ruled)
        for _ in range(20):
            gate.send_pair(pair({"x": x}, None))
    assert one.counts.kept == 20 and len(list(keeper.read(ruled, "net", secret.read(ruled)))) == 20


def test_without_its_key_nothing_is_kept(ruled, pair, x, monkeypatch, tmp_path):
    monkeypatch.setenv(secret.VARIABLE, str(tmp_path / "none"))
    with receiving(ruled) as one:
        Gate(ruled).send_pair(pair({"x": x}, None))
        wait(lambda: one.counts.dropped == {"no rules or no key (EnvironmentUnfitError)": 1})
    assert keeper.models(ruled) == []


def test_a_key_that_is_lost_is_told_once_and_nothing_is_kept_until_it_is_back(ruled, pair, x):
    """Also by a receiver that has it in memory: what it encrypts would be readable by nobody."""
    reason = "no rules or no key (EnvironmentUnfitError)"
    with receiving(ruled) as one:
        gate = Gate(ruled)
        gate.send_pair(pair({"x": x}, None))
        wait(lambda: one.counts.kept == 1)
        key = secret.path(ruled).read_bytes()
        secret.path(ruled).unlink()
        for number in (1, 2):
            gate.send_pair(pair({"x": x}, None))
            wait(lambda number=number: one.counts.dropped == {reason: number})
        assert not secret.path(ruled).exists()
        told = [event for event in events.latest(ruled, 10) if event.kind == "capture_refused"]
        assert len(told) == 1 and told[0].text.startswith("the key of what was captured is lost")
        private.write(secret.path(ruled), key)
        gate.send_pair(pair({"x": x}, None))
        wait(lambda: one.counts.kept == 2)
    assert len(list(keeper.read(ruled, "net", secret.read(ruled)))) == 2


def test_it_deletes_what_has_come_to_its_age(ruled, key, now, pair, x):
    """What was captured years ago is gone soon after the start."""
    writer = keeper.Keeper(ruled, key)
    writer.keep(decode(pair({"x": x}, None)), stored.rules(ruled)["net"])
    writer.close()
    assert keeper.models(ruled) == ["net"]
    with receiving(ruled):
        wait(lambda: keeper.models(ruled) == [])


def test_a_path_longer_than_a_sockets_name_may_be_is_no_hindrance(tmp_path, pair, x):
    repository = tmp_path / ("long" * 30)
    with receiving(repository):
        assert Gate(repository).send_pair(pair({"x": x}, None)) == 200


def test_a_socket_that_cannot_be_made_is_told(repository):
    private.folder(repository, receiver.SOCKET, "something is here").mkdir(parents=True)
    with pytest.raises((EnvironmentUnfitError, RepositoryError), match="capture"):
        Receiver(repository).start()


def test_one_that_was_never_started_can_be_stopped(repository):
    Receiver(repository).stop()
