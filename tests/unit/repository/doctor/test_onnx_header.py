"""The header is what onnx itself reads, and damaged files are refused, whatever their bytes."""

from __future__ import annotations

import contextlib

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from modelport.errors import SourceFormatError
from modelport.repository.doctor import onnx_header


def model(**options):
    value = helper.make_tensor_value_info
    inputs = [
        value("x", onnx.TensorProto.FLOAT, ["batch", 3, None]),
        value("n", onnx.TensorProto.INT64, []),
        value("given", onnx.TensorProto.FLOAT, [2]),
        value("any", onnx.TensorProto.FLOAT, None),
    ]
    outputs = [value("y", onnx.TensorProto.FLOAT, ["batch", 3, 2]), helper.make_empty_tensor_value_info("map")]
    stored = [helper.make_tensor("given", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])]
    function = helper.make_function(
        "pkg.own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 20)]
    )
    graph = helper.make_graph([helper.make_node("Add", ["x", "given"], ["y"])], "g", inputs, outputs, stored)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    made = helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=9)
    for tensor in options.get("external", ()):
        made.graph.initializer.append(tensor)
    return made


@pytest.fixture
def read(tmp_path):
    """`read(bytes)`: the header."""

    def act(data):
        path = tmp_path / "model.onnx"
        path.write_bytes(data)
        return onnx_header.read(path)

    return act


def test_it_says_what_is_around_the_weights(read):
    header = read(model().SerializeToString())
    assert header.ir_version == 9 and header.opsets == {"": 20, "ai.onnx.ml": 3}
    assert [(v.name, v.dtype, v.shape) for v in header.inputs] == [
        ("x", 1, (-1, 3, -1)), ("n", 7, ()), ("any", 1, None),
    ]  # fmt: skip
    assert [v.name for v in header.optional] == ["given"]
    assert [(v.name, v.dtype, v.shape) for v in header.outputs] == [("y", 1, (-1, 3, 2)), ("map", 0, None)]
    assert header.functions == {"pkg.own"} and header.locations == frozenset()


def test_names_of_external_data_are_found(read):
    tensor = helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [1.0])
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    assert read(model(external=[tensor]).SerializeToString()).locations == {"weights.bin"}


def test_weights_are_stepped_over(tmp_path):
    """Of a file of 1 GiB, made of a hole, only what is around it is read."""
    data = model().SerializeToString()
    hole = 1 << 30
    raw = b"\x4a" + bytes([(hole >> shift & 0x7F) | (0x80 if shift < 28 else 0) for shift in range(0, 35, 7)])
    tensor_size = len(raw) + hole
    tensor = b"\x2a" + varint(tensor_size)
    graph = onnx.ModelProto.FromString(data).graph.SerializeToString()
    graph_size = len(graph) + len(tensor) + tensor_size
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.write(b"\x08\x09\x42\x02\x10\x14\x3a" + varint(graph_size) + graph + tensor + raw)
        file.truncate(file.tell() + hole)
    header = onnx_header.read(path)
    assert header.ir_version == 9 and header.opsets == {"": 20} and [v.name for v in header.inputs][:1] == ["x"]


def varint(value):
    found = b""
    while value >= 0x80:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def test_a_file_that_is_cut_off_is_refused_at_every_byte(read):
    data = model().SerializeToString()
    for length in range(len(data)):
        try:
            read(data[:length])
        except SourceFormatError as exc:
            assert exc.why and exc.fix
        else:
            onnx.load_from_string(data[:length])  # then it is a whole message


@given(st.binary(max_size=200), st.integers(0, 2000))
def test_whatever_the_bytes_nothing_else_is_raised(tmp_path_factory, noise, at):
    data = model().SerializeToString()
    path = tmp_path_factory.mktemp("noise") / "model.onnx"
    for content in (noise, data[: at % len(data)] + noise + data[at % len(data) :]):
        path.write_bytes(content)
        with contextlib.suppress(SourceFormatError):
            onnx_header.read(path)
