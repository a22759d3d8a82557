"""An ONNX file run by torch: the operators of the sample models' files, one torch call for each node.

torch then has the same weights and does the same arithmetic; `traced` is what runs, without Python between the calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor
from torch.nn import functional

Attributes = Mapping[str, Any]


def traced(path: Path, example: np.ndarray) -> Callable[[Tensor], Tensor]:
    """The model as TorchScript that is optimised for inference, for inputs of the example's shape.

    Raises:
        KeyError: The file has an operator that is not known here.
    """
    given = torch.from_numpy(example)
    with torch.inference_mode():
        script = torch.jit.trace(Graph(path).eval(), given, check_trace=False)
        return torch.jit.optimize_for_inference(torch.jit.freeze(script.eval()))


class Graph(torch.nn.Module):
    """The nodes of a file with one input, in their order; what depends on weights alone is computed once."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = onnx.load(path).graph
        self.input, self.output = graph.input[0].name, graph.output[0].name
        self.known: dict[str, Tensor] = {
            tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer
        }
        self.nodes = []
        for node in graph.node:
            attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
            names = [name for name in node.input if name]
            if all(name in self.known for name in names):
                self.known[node.output[0]] = self.call(node.op_type, attributes, [self.known[name] for name in names])
            else:
                self.nodes.append((node.op_type, attributes, names, node.output[0]))

    def call(self, kind: str, attributes: Attributes, given: list[Tensor]) -> Tensor:
        """Run one operator."""
        return OPERATORS[kind](attributes, *given)

    def forward(self, table: Tensor) -> Tensor:
        """The first output for a table of rows."""
        seen = {**self.known, self.input: table}
        for kind, attributes, names, output in self.nodes:
            seen[output] = self.call(kind, attributes, [seen[name] for name in names])
        return seen[self.output]


def padded(table: Tensor, attributes: Attributes, value: float) -> Tensor:
    """With ONNX's padding: all axes' beginnings, then all ends."""
    pads = list(attributes.get("pads", []))
    half = len(pads) // 2
    pairs = [pads[half * side + axis] for axis in reversed(range(half)) for side in (0, 1)]
    return functional.pad(table, pairs, value=value) if any(pads) else table


def conv(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    pads = list(a["pads"])
    half = len(pads) // 2
    same = pads[:half] == pads[half:]
    x = x if same else padded(x, a, 0.0)
    return functional.conv2d(x, weight, bias, a["strides"], pads[:half] if same else 0, a["dilations"], a["group"])


def max_pool(a: Attributes, x: Tensor) -> Tensor:
    return functional.max_pool2d(padded(x, a, -torch.inf), a["kernel_shape"], a["strides"])


def gemm(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.linear(x, weight if a["transB"] else weight.T, bias)


def part(a: Attributes, x: Tensor, start: Tensor, end: Tensor, axes: Tensor | None = None) -> Tensor:
    axis = 0 if axes is None else int(axes)
    return x[(slice(None),) * axis + (slice(int(start), int(end)),)]


def lstm(a: Attributes, x: Tensor, w: Tensor, r: Tensor, b: Tensor, *state: Tensor) -> Tensor:
    """One direction; ONNX has the gates as i o f c, torch as i f c o. The state before the first step is zero."""

    def gates(weight: Tensor) -> Tensor:
        i, o, f, c = weight.chunk(4)
        return torch.cat([i, f, c, o])

    first, second = b[0].chunk(2)
    weights = [gates(w[0]), gates(r[0]), gates(first), gates(second)]
    zero = torch.zeros(1, x.shape[1], a["hidden_size"])
    steps, _, _ = torch.lstm(x, (zero, zero), weights, True, 1, 0.0, False, False, False)
    return steps[:, None]


def unsqueezed(a: Attributes, x: Tensor, axes: Tensor) -> Tensor:
    for axis in axes.tolist():
        x = x.unsqueeze(axis)
    return x


OPERATORS: Mapping[str, Callable[..., Tensor]] = {
    "Add": lambda a, x, y: x + y,
    "Cast": lambda a, x: x.to({1: torch.float32, 7: torch.int64}[a["to"]]),
    "Clip": lambda a, x, low, high=None: torch.clamp(x, low, high),
    "Concat": lambda a, *x: torch.cat(x, a["axis"]),
    "Conv": conv,
    "Div": lambda a, x, y: x / y,
    "Equal": lambda a, x, y: x == y,
    "Expand": lambda a, x, shape: x.expand(torch.broadcast_shapes(x.shape, tuple(shape.tolist()))),
    "Gather": lambda a, x, index: functional.embedding(index, x),
    "GatherElements": lambda a, x, index: torch.gather(x, a["axis"], index),
    "Gemm": gemm,
    "LSTM": lstm,
    "MatMul": lambda a, x, y: x @ y,
    "MaxPool": max_pool,
    "Mul": lambda a, x, y: x * y,
    "Not": lambda a, x: ~x,
    "ReduceMean": lambda a, x, axes: x.mean(axes.tolist(), keepdim=bool(a["keepdims"])),
    "ReduceSum": lambda a, x, axes: x.sum(axes.tolist(), keepdim=bool(a["keepdims"])),
    "Relu": lambda a, x: torch.relu(x),
    "Reshape": lambda a, x, shape: x.reshape(shape.tolist()),
    "Shape": lambda a, x: torch.tensor(x.shape[a.get("start", 0) : a.get("end")]),
    "Slice": part,
    "Softmax": lambda a, x: torch.softmax(x, a["axis"]),
    "Squeeze": lambda a, x, axes: x.squeeze(int(axes)),
    "Sub": lambda a, x, y: x - y,
    "Transpose": lambda a, x: x.permute(a["perm"]),
    "Unsqueeze": unsqueezed,
}
