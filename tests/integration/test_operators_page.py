"""What docs/operate.md shows works as it stands there: the unit's command serves, with what the unit lets it see and
write, and each command runs beside it."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import modelport
from modelport.gateway.settings import Settings

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PORTS = ("HTTP_PORT", "GRPC_PORT", "METRICS_PORT", "HEALTH_PORT", "GATEWAY_PORT")


@pytest.fixture
def environment():
    """Free ports for all that listens, and this Python's commands."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, **{f"MODELPORT_{name}": "0" for name in PORTS}}


@pytest.fixture
def blocks(root):
    """The page's code: (language, text)."""
    return BLOCK.findall((root / "docs" / "operate.md").read_text())


@pytest.fixture
def service(blocks, tmp_path, environment, make_graph, apart):
    """The unit's command, on loopback, for a model `digits` of two versions."""
    x = np.linspace(-1, 1, 16, dtype=np.float32).reshape(8, 2)
    graph = make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "x:FLOAT[n,2]", "y:FLOAT[n,2]")
    file = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    for _ in range(2):
        modelport.export(file, name="digits", repository=tmp_path / "model_repository", example_inputs={"x": x})
    unit = configparser.ConfigParser()
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(next(text for language, text in blocks if language == "ini"))
    program, *options = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program).name == "modelport" and "0.0.0.0" in options
    options[options.index("0.0.0.0")] = "127.0.0.1"
    command = apart(mounts(unit["Service"], tmp_path), [sys.executable, "-m", "modelport", *options])
    assert int(unit["Service"]["LimitNOFILE"]) >= 2 * Settings().connections
    variable, _, cache = unit["Service"]["Environment"].partition("=")
    environment = {**environment, variable: cache}
    log = tmp_path / "journal"
    with (
        log.open("w") as journal,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=journal, text=True) as process,
    ):
        try:
            assert process.stdout is not None and any("Ctrl-C" in line for line in process.stdout), log.read_text()
            yield process
        finally:
            process.terminate()
            assert process.wait(60) == 0
    assert "server_started" in {json.loads(line)["kind"] for line in log.read_text().splitlines()}, (
        "JSON for each event"
    )


def mounts(unit, folder):
    """What systemd does for `ProtectSystem=strict`, the folders that may be written, and the working folder."""
    assert (unit["ProtectSystem"], unit["ReadWritePaths"]) == ("strict", unit["WorkingDirectory"])
    own, cache = unit["WorkingDirectory"], f"/var/cache/{unit['CacheDirectory']}"
    return [
        "mount --bind /tmp /tmp",
        *("mount -t tmpfs tmpfs /srv", f"mkdir -p {own}", f"mount --bind {shlex.quote(str(folder))} {own}"),
        *("mount -t tmpfs tmpfs /var/cache", f"mkdir {cache}", f"mount -t tmpfs tmpfs {cache}"),
        *(f"mount -o remount,bind,ro {place}" for place in ("/srv", "/var/cache", "/")),
        f"cd {own}",
    ]


def test_the_commands_run_in_the_shown_order(root, blocks, tmp_path, environment, service, beside):
    shell = "".join(text for language, text in blocks if language == "sh")
    for verb in ("doctor", "keys create", "keys rotate", "top", "prometheus", "promote", "upgrade-check", "restore"):
        assert f"modelport {verb} " in shell or f"modelport {verb}\n" in shell
    done = subprocess.run(
        beside(service.pid, "/srv/modelport", ["bash", "-euxo", "pipefail", "-c", shell]),
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "prometheus" / "prometheus.yml").is_file()
    token = (tmp_path / "acme.token").read_text().strip()
    assert token.count(".") == 2 and token not in done.stdout + done.stderr
    before, after = (tmp_path / where / "model_repository" / "digits" for where in ("", "elsewhere"))
    assert (after / "2" / "model.onnx").read_bytes() == (before / "2" / "model.onnx").read_bytes()

    named = set(re.findall(r"`(model_repository\.state/[\w./]+)`", (root / "docs" / "operate.md").read_text()))
    assert len(named) >= 3
    assert [name for name in named if not (tmp_path / name).exists()] == []
