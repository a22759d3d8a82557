"""Loads that hang in the server's own process are told from slow ones, and from those that have a process to kill."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelport.server import stubs
from modelport.server.control import VersionState
from modelport.server.handle import ServerHandle
from modelport.server.process_id import ProcessId
from modelport.supervisor.loads import STUCK_S, Loads

LOADING = VersionState(model="m", version=2, state="LOADING", reason="")


@pytest.fixture
def handle(tmp_path):
    ports = {"http_port": 1, "grpc_port": 2, "metrics_port": 3}
    return ServerHandle(
        repository=tmp_path,
        host="127.0.0.1",
        secret="",
        server=ProcessId.of(),
        shm_prefix="x_",
        inside=("onnxruntime",),
        **ports,
    )


def test_a_load_that_takes_too_long_is_named(handle):
    loads = Loads()
    for now in (0.0, STUCK_S / 2, STUCK_S):
        loads.see([LOADING], now)
        assert loads.stuck(handle, now) == ""
    assert "version 2 of 'm' has been loading in the server's own process" in loads.stuck(handle, STUCK_S + 1)


def test_one_that_ended_and_began_again_counts_anew(handle):
    loads = Loads()
    loads.see([LOADING], 0.0)
    loads.see([replace(LOADING, state="READY")], STUCK_S / 2)
    loads.see([LOADING], STUCK_S)
    assert loads.stuck(handle, STUCK_S + 1) == ""


def test_one_with_a_process_of_its_own_is_not_the_servers(handle, monkeypatch):
    loads = Loads()
    loads.see([LOADING], 0.0)
    assert loads.stuck(replace(handle, inside=()), STUCK_S + 1) == ""
    own = stubs.Stub(process=None, model="m", version=2, instance="m_0_0", region="x_1", stopped=False)
    monkeypatch.setattr(stubs, "find", lambda *_: (own,))
    assert loads.stuck(handle, STUCK_S + 1) == ""
