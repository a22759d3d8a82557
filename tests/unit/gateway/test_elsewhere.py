"""The files of an Envoy that somebody else starts."""

from __future__ import annotations

import contextlib
import stat
import subprocess
from dataclasses import replace

import pytest

from modelport._process import wait_until
from modelport.errors import UsageError
from modelport.gateway.elsewhere import GatewayElsewhere
from modelport.gateway.envoy import program
from modelport.gateway.settings import Settings, Upstream

UPSTREAM = Upstream(host="triton", http_port=8000, grpc_port=8001)
SETTINGS = Settings(port=8443, upstreams=(UPSTREAM,))


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "model_repository").mkdir()
    return tmp_path / "model_repository"


def files(gateway):
    return {path.name: path.read_text() for path in gateway.folder.rglob("*.json")}


def test_another_controller_writes_the_same_files_so_that_a_running_envoy_goes_on(repository):
    """Above all what the gate puts on requests: the running Envoy's routes ask for it."""
    first = GatewayElsewhere(repository, SETTINGS)
    first.start()
    before = files(first)
    first.stop()
    second = GatewayElsewhere(repository, SETTINGS)
    second.start()
    try:
        assert {**files(second), "jwt.json": ""} == {**before, "jwt.json": ""}  # with no key yet, it is nobody's
        assert not second.running and not second.outdated and second.pid == 0
    finally:
        second.stop()


def test_what_it_keeps_is_read_by_nobody_else(repository):
    gateway = GatewayElsewhere(repository, SETTINGS)
    gateway.start()
    gateway.stop()
    assert stat.S_IMODE(gateway.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE((gateway.folder / name).stat().st_mode) for name in ("pass", "bootstrap.json")} == {0o600}


@pytest.mark.parametrize("options", [{"port": 0}, {"metrics_port": 0}])
def test_its_ports_are_fixed(repository, options):
    with pytest.raises(UsageError, match="fixed port"):
        GatewayElsewhere(repository, replace(SETTINGS, **options))


def test_an_envoy_that_runs_with_other_settings_is_outdated_until_it_is_started_anew(repository, free_port):
    settings = replace(SETTINGS, port=free_port())

    @contextlib.contextmanager
    def envoy(gateway):
        words = [program.find(), "-c", gateway.folder / "bootstrap.json", "-l", "error", "--disable-hot-restart"]
        process = subprocess.Popen(words, cwd=gateway.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert wait_until(lambda: gateway.running, timeout_s=20)
            yield gateway.began()
        finally:
            process.kill()
            process.wait(10)

    gateway = GatewayElsewhere(repository, settings)
    gateway.start()
    assert gateway.began() is None
    with envoy(gateway) as began:
        gateway.stop()
        gateway = GatewayElsewhere(repository, replace(settings, body_bytes=1 << 20))
        gateway.start()
        try:
            gateway.refresh()
            assert gateway.outdated and began == gateway.began() is not None
        finally:
            gateway.stop()
    gateway = GatewayElsewhere(repository, replace(settings, body_bytes=1 << 20))
    gateway.start()
    try:
        with envoy(gateway) as again:
            gateway.refresh()
            assert again != began and not gateway.outdated
    finally:
        gateway.stop()
