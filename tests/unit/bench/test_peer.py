"""The FastAPI service answers with the model's own answer, and a failed start is reported with its words."""

from __future__ import annotations

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from modelport.bench import peer
from modelport.bench.requests import Request, send
from modelport.errors import ServerTimeoutError


@pytest.fixture
def doubling(tmp_path):
    """An ONNX model that adds its input, of shape [N, 3], to itself."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("workers", [1, 2])
def test_it_answers_and_leaves_no_process(doubling, tmp_path, workers):
    values = np.array([[1, 2, 3]], dtype=np.float32)
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with peer.fastapi(doubling, workers=workers, threads=1, log=tmp_path / "log") as url:
        answer = send(url, Request(path="/infer", body=values.tobytes()))
    np.testing.assert_array_equal(answer, [2, 4, 6])
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before


def test_a_service_that_cannot_start_says_why(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with (
        pytest.raises(ServerTimeoutError, match="INVALID_PROTOBUF"),
        peer.fastapi(tmp_path / "model.onnx", workers=1, threads=1, log=tmp_path / "log"),
    ):
        pass
