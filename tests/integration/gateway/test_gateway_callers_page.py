"""What docs/callers.md shows works as it stands there, through a gateway: keys, shell, curl, Python, tritonclient."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from onnx import helper

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def sample(setup, make_graph, make_zoo):
    """The model of the page: y = 2 x + 1."""
    repository = setup.gateway.repository
    one = helper.make_node("Constant", [], ["one"], value_float=1.0)
    nodes = [helper.make_node("Add", ["x", "x"], ["twice"]), one, helper.make_node("Add", ["twice", "one"], ["y"])]
    graph = make_graph(nodes, "x:FLOAT[n,1]", "y:FLOAT[n,1]")
    make_zoo(repository).onnx("linear_regression", "x:FP32[1]", "y:FP32[1]", graph)
    setup.server.load("linear_regression")
    setup.gateway.refresh()
    yield repository
    setup.server.unload("linear_regression")
    shutil.rmtree(repository / "linear_regression")
    setup.gateway.refresh()


def test_the_commands_and_the_code_run_in_the_shown_order(root, setup, sample):
    """The port and the repository's name are others, and the gateway of the test runs already."""
    blocks = BLOCK.findall((root / "docs" / "callers.md").read_text())
    shell = "".join(text for language, text in blocks if language == "sh")
    python = "".join(text for language, text in blocks if language == "python")
    assert "https://localhost:8443" in shell and python.count("infer(") == 4
    shell = shell.replace("https://localhost:8443", f"https://localhost:{setup.gateway.settings.port}")
    shell = shell.replace("model_repository.state", f"{sample.name}.state")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{shell}\npython - <<'END'\n{python}END\n"],
        cwd=sample.parent,
        env={**os.environ, "PATH": path, "MODELPORT_REPOSITORY": str(sample)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"y +float32 +\[1\] +2", done.stdout), "modelport infer"
    assert '"data":[2.0]' in done.stdout and '"datatype":"FP32","shape":[-1,1]' in done.stdout, "curl"
    answers = done.stdout.rpartition("}")[2].split()
    assert answers == ["[2.]", "[[2.]", "[4.]]", "[[2.]]", "[[2.]]"], "Python and tritonclient"
    token = (sample.parent / "acme.token").read_text().strip()
    assert token not in done.stdout + done.stderr
    for left in sample.parent.rglob("*"):
        if left.is_file() and left.name != "acme.token":
            assert token.encode() not in left.read_bytes(), f"{left} holds the token"
