"""The model in process: rows are counted over all sessions, whatever the batch."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from modelport.bench import in_process


@pytest.fixture
def model(tmp_path):
    """y = x + x, with a batch axis."""
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 2]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "x"], ["y"])], "sum", [x], [y])
    onnx.save(
        onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)]),
        tmp_path / "m.onnx",
    )
    return tmp_path / "m.onnx"


def test_rows_of_all_sessions_are_counted(model):
    row = {"x": np.ones((1, 2), dtype=np.float32)}
    limit = in_process.measure(model, row, batch=3, threads=1, sessions=2, seconds=0.05)
    assert (limit.batch, limit.sessions, limit.threads) == (3, 2, 1)
    assert limit.rows_per_s > 0 and limit.cpu_us_per_row > 0
