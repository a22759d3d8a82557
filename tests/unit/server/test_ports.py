"""Ports: free ones are found, taken ones are named with their holder, and nothing but loopback is listened on."""

from __future__ import annotations

import os
import socket

import psutil
import pytest

from modelport.errors import PortTakenError, UsageError
from modelport.server import ports

HOST = "127.0.0.1"


@pytest.fixture
def listener():
    with socket.create_server((HOST, 0)) as sock:
        yield sock.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.5.0.1", "localhost"])
def test_loopback_addresses_are_accepted(host):
    assert ports.loopback(host).startswith("127.")


@pytest.mark.parametrize("host", ["0.0.0.0", "", "10.0.0.1", "::", "example.org", "127.0.0.1.example.org"])
def test_any_other_address_is_refused(host):
    with pytest.raises(UsageError, match="cannot listen"):
        ports.loopback(host)


def test_zeros_become_different_free_ports():
    found = ports.choose(HOST, {"HTTP": 0, "gRPC": 0, "metrics": 0})
    assert len(set(found.values())) == 3
    assert all(ports.is_free(HOST, port) for port in found.values())


def test_a_taken_port_is_named_with_its_holder(listener):
    with pytest.raises(PortTakenError, match=f"port {listener} for gRPC is taken") as caught:
        ports.choose(HOST, {"HTTP": 0, "gRPC": listener})
    assert caught.value.port == listener
    assert caught.value.why == f"{psutil.Process().name()} (process {os.getpid()}) listens on port {listener}"


def test_every_taken_port_is_named():
    with socket.create_server((HOST, 0)) as one, socket.create_server((HOST, 0)) as two:
        numbers = {"HTTP": one.getsockname()[1], "gRPC": two.getsockname()[1]}
        with pytest.raises(PortTakenError) as caught:
            ports.check_free(HOST, numbers)
    assert all(f"port {port} for {purpose}" in caught.value.what for purpose, port in numbers.items())


def test_a_port_taken_on_all_addresses_is_taken():
    with socket.create_server(("0.0.0.0", 0)) as sock:
        assert not ports.is_free(HOST, sock.getsockname()[1])


@pytest.mark.parametrize("wanted", [{"HTTP": 70000}, {"HTTP": -1}, {"HTTP": 8000, "gRPC": 8000}])
def test_numbers_that_cannot_be_are_refused(wanted):
    with pytest.raises(UsageError, match="cannot be used"):
        ports.choose(HOST, wanted)


def test_answers_tells_a_listener_from_a_free_port(listener):
    assert ports.answers(HOST, listener)
    assert not ports.answers(HOST, ports.choose(HOST, {"HTTP": 0})["HTTP"])
