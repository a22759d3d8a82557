"""ONNX Runtime keeps its usage data to itself."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

RUN = """
{load}
from onnx import TensorProto, helper
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
"""


@pytest.mark.parametrize(
    ("load", "kept"),
    [("from modelport.convert.runtime import onnxruntime", False), ("import onnxruntime", True)],
    ids=["as modelport loads it", "as it is"],
)
def test_no_device_number_is_made(tmp_path, load, kept):
    """The second case shows that the first can fail; a release without telemetry would make it needless."""
    env = {"PATH": os.environ["PATH"]}  # nothing else: where it finds CI's variables ONNX Runtime is silent by itself
    env |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / ".cache")}
    subprocess.run([sys.executable, "-c", RUN.format(load=load)], env=env, check=True, timeout=120)
    assert any(tmp_path.rglob("deviceid")) == kept
