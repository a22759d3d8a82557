"""Tiny published ONNX models to optimise: a convolutional net, an LSTM, and ones that a kind cannot take."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelport.commands.export import export

RANDOM = np.random.default_rng(0)


def weights(name: str, *shape: int, scale: float = 0.3) -> onnx.TensorProto:
    return numpy_helper.from_array((RANDOM.standard_normal(shape) * scale).astype(np.float32), name)


def model(nodes: Sequence[Any], constants: Sequence[Any], dims: Sequence[int], out: int) -> onnx.ModelProto:
    """A graph from `x` [batch, dims] to `y` [batch, out]."""
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *dims])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", out])],
        list(constants),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def convolutional() -> onnx.ModelProto:
    node = helper.make_node
    return model(
        [
            node("Conv", ["x", "w1"], ["a"], name="first", pads=[1, 1, 1, 1]),
            node("Relu", ["a"], ["b"]),
            node("Conv", ["b", "w2"], ["c"], name="second", pads=[1, 1, 1, 1]),
            node("Relu", ["c"], ["d"]),
            node("GlobalAveragePool", ["d"], ["e"]),
            node("Flatten", ["e"], ["f"]),
            node("Gemm", ["f", "w3"], ["g"], name="last"),
            node("Softmax", ["g"], ["y"]),
        ],
        [weights("w1", 16, 3, 3, 3), weights("w2", 32, 16, 3, 3), weights("w3", 32, 4, scale=2.0)],
        [3, 8, 8],
        4,
    )


def uneven() -> onnx.ModelProto:
    """One channel of its first layer has weights a thousand times as large as the others, and never gives anything."""
    made = convolutional()
    first = made.graph.initializer[0]
    array = numpy_helper.to_array(first).copy()
    array[0] *= 1000
    first.CopyFrom(numpy_helper.from_array(array, first.name))
    bias = np.array([-1e5, *[0.0] * 15], dtype=np.float32)
    made.graph.initializer.append(numpy_helper.from_array(bias, "b1"))
    made.graph.node[0].input.append("b1")
    return made


def recurrent() -> onnx.ModelProto:
    node = helper.make_node
    zero = numpy_helper.from_array(np.array([0], dtype=np.int64), "zero")
    return model(
        [
            node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            node("LSTM", ["t", "w", "r"], ["", "h"], name="memory", hidden_size=32),
            node("Squeeze", ["h", "zero"], ["s"]),
            node("Gemm", ["s", "v"], ["g"], name="last"),
            node("Softmax", ["g"], ["y"]),
        ],
        [weights("w", 1, 128, 16), weights("r", 1, 128, 32), weights("v", 32, 2, scale=1.0), zero],
        [6, 16],
        2,
    )


def single() -> onnx.ModelProto:
    """Takes one picture at a time: its shapes are fixed."""
    made = convolutional()
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return made


def overflowing() -> onnx.ModelProto:
    """Leaves the range of float16 in one operator, and comes back."""
    up, down = (numpy_helper.from_array(np.array(v, dtype=np.float32), n) for n, v in (("up", 6e4), ("down", 1 / 6e4)))
    node = helper.make_node
    return model(
        [
            node("MatMul", ["x", "w"], ["a"], name="plain"),
            node("Mul", ["a", "up"], ["b"], name="large"),
            node("Mul", ["b", "down"], ["y"], name="small"),
        ],
        [weights("w", 8, 4, scale=2.0), up, down],
        [8],
        4,
    )


def ending_large() -> onnx.ModelProto:
    """Its answers themselves are beyond float16."""
    up = numpy_helper.from_array(np.array(6e4, dtype=np.float32), "up")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Mul", ["a", "up"], ["y"], name="large")]
    return model(nodes, [weights("w", 8, 4, scale=2.0), up], [8], 4)


def slight() -> onnx.ModelProto:
    """Two dense layers of a few weights: what 8 bits need beside them is more than what they save."""
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Gemm", ["b", "w2", "b2"], ["y"], name="last"),
    ]
    sizes = {"w1": (4, 16), "b1": (16,), "w2": (16, 3), "b2": (3,)}
    return model(nodes, [weights(name, *shape) for name, shape in sizes.items()], [4], 3)


def without_weights() -> onnx.ModelProto:
    return model([helper.make_node("Relu", ["x"], ["y"])], [], [4], 4)


def samples(*dims: int, rows: int = 96) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((rows, *dims)).astype(np.float32)


MODELS = {
    "pictures": (convolutional, (3, 8, 8)),
    "uneven": (uneven, (3, 8, 8)),
    "memory": (recurrent, (6, 16)),
    "overflowing": (overflowing, (8,)),
    "ending_large": (ending_large, (8,)),
    "slight": (slight, (4,)),
    "plain": (without_weights, (4,)),
    "single": (single, (1, 3, 8, 8)),
}


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the models above, for reading."""
    folder = tmp_path_factory.mktemp("to_optimise")
    for name, (make, dims) in MODELS.items():
        onnx.save(make(), folder / f"{name}.onnx")
        labels = ["a", "b", "c", "d"] if name == "pictures" else None
        batched = name != "single"
        x = samples(*dims, rows=8)
        export(
            folder / f"{name}.onnx",
            name=name,
            repository=folder / "model_repository",
            example_inputs={"x": x if batched else x[0]},
            labels=labels,
            max_batch_size=None if batched else 0,
        )
    return folder / "model_repository"


@pytest.fixture
def repository(published: Path, tmp_path: Path) -> Path:
    """A copy of it, with its state, that a test may change."""
    shutil.copytree(published.parent / "model_repository.state", tmp_path / "model_repository.state")
    return Path(shutil.copytree(published, tmp_path / "model_repository"))


@pytest.fixture
def data(tmp_path: Path):
    """`data("pictures")`: a file with real samples for it; `rows` and `dims` to make it wrong."""

    def make(name: str, *, rows: int = 96, dims: tuple[int, ...] | None = None, **more: np.ndarray) -> Path:
        path = tmp_path / f"{name}.npz"
        np.savez(path, x=samples(*(dims or MODELS[name][1]), rows=rows), **more)
        return path

    return make
