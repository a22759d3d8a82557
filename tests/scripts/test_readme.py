"""What the README shows works as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from modelport.repository import manifest

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Shown, but not run here: they need ports, docker or a whole set-up, and have tests of their own.
ELSEWHERE = ("make ", "modelport serve", "curl ", "export ", "deploy/", "docker ", "-d '")


@pytest.fixture(scope="module")
def blocks(root):
    """The README's code: (language, text)."""
    return BLOCK.findall((root / "README.md").read_text())


ROWS = np.random.default_rng(0).random((60, 28, 28, 1), np.float32)
MEASURED_SHORTLY = ["--concurrency", "2", "--interval", "0.4", "--repeats", "1"]


def run(command, folder, **variables):
    env = {**os.environ, **variables, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_python_code_runs_from_top_to_bottom(blocks, tmp_path):
    """Export, serve and call, in an empty folder."""
    code = "\n".join(text for language, text in blocks if language == "python")
    assert "modelport.export(" in code and "modelport.serve(" in code
    output = run([sys.executable, "-c", code], tmp_path)
    assert "flowers" in output and re.search(r"^(setosa|versicolor|virginica) 0\.\d+$", output, re.MULTILINE)


SAVE_A_MODEL = """
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
model.save("model.keras")
import pathlib, sys, torch
sys.path.insert(0, "")
code = "import torch\\n\\ndef make_net():\\n    return torch.nn.Linear(4, 3)\\n"
pathlib.Path("train.py").write_text(code)
from train import make_net
torch.save(make_net().state_dict(), "net.pt")
"""


@pytest.fixture
def service(tmp_path):
    """`modelport serve` as the README starts it, on free ports; it is ended with SIGTERM and leaves with 0."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        ports = [word for name in ("http", "grpc", "metrics", "health") for word in (f"--{name}-port", "0")]
        command = [sys.executable, "-m", "modelport", "serve", *ports]
        started.append(subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
        assert any(b"Ctrl-C" in line for line in started[0].stdout)

    yield start
    for process in started:
        process.terminate()
        assert process.wait(60) == 0
        process.stdout.close()


def test_the_commands_run_in_the_shown_order(root, blocks, tmp_path, service):
    """Measurements are shorter; perf_analyzer is the one that the tests of `bench` keep."""
    lines = [line for language, text in blocks if language == "sh" for line in text.splitlines()]
    run([sys.executable, "-c", SAVE_A_MODEL], tmp_path)
    ran = []
    for line in lines:
        if line.strip() == "modelport serve":
            service()
        elif not line.strip().startswith(ELSEWHERE):
            command = shlex.split(line, comments=True)
            if command[1] == "evaluate":
                [image] = manifest.read(tmp_path / "model_repository" / "digits" / "1").spec.inputs
                np.savez(tmp_path / "rows.npz", **{image.name: ROWS, "labels": np.arange(len(ROWS)) % 10})
            measured = command[1] == "bench" and "--install" not in command
            run(command + MEASURED_SHORTLY * measured, tmp_path, XDG_DATA_HOME=str(root / "build" / "tests-data"))
            ran.append(command[1])
    assert ran[:3] == ["export", "export", "verify"] and ran[-13:-9] == ["export", "promote", "rollback", "status"]
    assert ran[-9:-5] == ["keys", "route", "promote", "route"]
    assert ran[-5:] == ["bench"] * 3 + ["evaluate", "gate"]
    assert len(list((tmp_path / "benchmarks" / "results").glob("*.html"))) == 2
    assert (tmp_path / "model_repository" / "digits" / "2" / "evidence.json").is_file()
