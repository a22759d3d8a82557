"""The benchmark of optimised models runs to its end and stores what it measured."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelport.commands.export import export
from modelport.recipes import stored


def test_optimising_in_its_short_form(root, tmp_path):
    """A model becomes smaller in a copy of its repository; rounds, scores and goals are stored."""
    random = np.random.default_rng(0)
    weights = [random.standard_normal(shape).astype(np.float32) for shape in ((32, 3, 3, 3), (32, 32, 3, 3), (32, 4))]
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Conv", ["x", "w0"], ["a"]),
            node("Conv", ["a", "w1"], ["b"]),
            node("GlobalAveragePool", ["b"], ["c"]),
            node("Flatten", ["c"], ["d"]),
            node("Gemm", ["d", "w2"], ["y"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(array, f"w{number}") for number, array in enumerate(weights)],
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    x = random.standard_normal((64, 3, 8, 8)).astype(np.float32)
    repository, output = tmp_path / "model_repository", tmp_path / "results.json"
    export(path, name="digits_cnn", repository=repository, example_inputs={"x": x})
    evaluation = {"inputs": {"x": x}, "answers": {}, "metrics": ("accuracy",), "padded": False, "framework": ""}
    stored.save(repository, "digits_cnn", 1, stored.StoredEvaluation(truth=random.integers(0, 4, 64), **evaluation))
    command = [sys.executable, "benchmarks/optimising.py", "--quick", "--models", "digits_cnn", "--seconds", "0.05"]
    command += ["--repository", repository, "--output", output]
    done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(output.read_text())
    (row,) = written["rows"]
    assert (
        len(row["measured"]["raw"]) == 3 and row["measured"]["smaller"] > 2 and row["scores"][0]["metric"] == "accuracy"
    )
    assert set(row["reached"]) == {"drop"} and written["processor"]["known"] and "x smaller" in done.stdout
    assert [path.name for path in (repository / "digits_cnn").iterdir() if path.is_dir()] == ["1"], "only read"
