"""ONNX: external data wherever a tensor can be, and operators that are not ONNX's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelport.convert.hostile import onnx_files
from modelport.convert.hostile.onnx_files import check_onnx
from modelport.errors import SourceFormatError, UnsafeSourceError


def model_of(nodes: list, initializers: list = (), functions: list = (), sparse: list = ()) -> onnx.ModelProto:
    """A model of these nodes, whose input is x and whose output is y."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        list(initializers),
        sparse_initializer=list(sparse),
    )
    domains = {"": 18, **{function.domain: 1 for function in functions}}
    opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=9)


def external(name: str = "w", size: int = 2, **facts: object) -> TensorProto:
    """A float tensor whose data lie in a file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[size], data_location=TensorProto.EXTERNAL)
    for key, value in facts.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def in_initializer(tensor: TensorProto) -> onnx.ModelProto:
    return model_of([helper.make_node("Add", ["x", "w"], ["y"])], [tensor])


def in_constant(tensor: TensorProto) -> onnx.ModelProto:
    return model_of([helper.make_node("Constant", [], ["w"], value=tensor), helper.make_node("Add", ["x", "w"], ["y"])])


def in_list_of_tensors(tensor: TensorProto) -> onnx.ModelProto:
    node = helper.make_node("Add", ["x", "x"], ["y"])
    node.attribute.append(onnx.AttributeProto(name="t", type=onnx.AttributeProto.TENSORS, tensors=[tensor]))
    return model_of([node])


def in_branch(tensor: TensorProto) -> onnx.ModelProto:
    inner = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["z"])],
        "branch",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [tensor],
    )
    outer = helper.make_graph(
        [helper.make_node("If", ["flag"], ["z2"], then_branch=inner, else_branch=inner)],
        "outer",
        [],
        [helper.make_tensor_value_info("z2", TensorProto.FLOAT, None)],
    )
    flag = numpy_helper.from_array(np.array(True), "flag")
    return model_of([helper.make_node("If", ["flag"], ["y"], then_branch=outer, else_branch=outer)], [flag])


def in_function(tensor: TensorProto) -> onnx.ModelProto:
    nodes = [helper.make_node("Constant", [], ["w"], value=tensor), helper.make_node("Add", ["a", "w"], ["b"])]
    function = helper.make_function("mine", "Shift", ["a"], ["b"], nodes, [helper.make_opsetid("", 18)])
    return model_of([helper.make_node("Shift", ["x"], ["y"], domain="mine")], functions=[function])


def in_function_default(tensor: TensorProto) -> onnx.ModelProto:
    model = in_function(numpy_helper.from_array(np.ones(2, np.float32), "w"))
    default = onnx.AttributeProto(name="t", type=onnx.AttributeProto.TENSOR, t=tensor)
    model.functions[0].attribute_proto.append(default)
    return model


def in_sparse(tensor: TensorProto) -> onnx.ModelProto:
    sparse = onnx.SparseTensorProto(values=tensor, dims=[4])
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([0, 1]), "indices"))
    return model_of([helper.make_node("Add", ["x", "w"], ["y"])], sparse=[sparse])


def in_training(tensor: TensorProto) -> onnx.ModelProto:
    model = in_initializer(numpy_helper.from_array(np.ones(2, np.float32), "w"))
    model.training_info.add().algorithm.initializer.append(tensor)
    return model


PLACES = [
    in_initializer,
    in_constant,
    in_list_of_tensors,
    in_branch,
    in_function,
    in_function_default,
    in_sparse,
    in_training,
]


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[onnx.ModelProto], Path]:
    """`saved(model)`: its file, in a folder of its own below the temporary one."""

    def build(model: onnx.ModelProto) -> Path:
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        (folder / "net.onnx").write_bytes(model.SerializeToString())
        return folder / "net.onnx"

    return build


def test_a_good_model_passes(samples: dict[str, Path]) -> None:
    check_onnx(samples["onnx"])


@pytest.mark.parametrize("place", PLACES)
def test_external_data_in_a_plain_file_beside_the_model_pass_anywhere(saved: Callable, place: Callable) -> None:
    path = saved(place(external(location="data/w.bin", offset=4, length=8)))
    (path.parent / "data").mkdir()
    (path.parent / "data/w.bin").write_bytes(bytes(12))
    check_onnx(path)


def test_what_onnx_itself_saves_with_external_data_passes_and_loads(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.ones(2, np.float32), "w")
    onnx.save(
        in_initializer(tensor), tmp_path / "a.onnx", save_as_external_data=True, location="a.data", size_threshold=0
    )
    check_onnx(tmp_path / "a.onnx")
    assert (tmp_path / "a.data").stat().st_size >= 8
    onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])


@pytest.mark.timeout(20)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "location", ["../target", "{absolute}", "a/../../target", "link", "folder/target", "pipe", "hard"]
)
def test_external_data_elsewhere_are_refused_and_the_target_is_not_opened(
    tmp_path: Path, saved: Callable, refused: Callable, place: Callable, location: str
) -> None:
    target = tmp_path / "target"
    os.mkfifo(target)  # whoever opens it waits for ever, and the test with it
    location = location.replace("{absolute}", str(target))
    path = saved(place(external(location=location, length=8)))
    (path.parent / "a").mkdir()
    (path.parent / "link").symlink_to(target)
    (path.parent / "folder").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(path.parent / "pipe")
    (tmp_path / "other").write_bytes(bytes(8))
    os.link(tmp_path / "other", path.parent / "hard")
    refused(check_onnx, path, UnsafeSourceError, "tensor", repr(location))


@pytest.mark.parametrize(
    "location",
    [
        "",
        ".",
        "..",
        "/",
        "a/",
        "a//w.bin",
        "./w.bin",
        "C:/w.bin",
        "..\\w.bin",
        "w.bin\0",
        "w\n.bin",
        "*/_ORT_MEM_ADDR_/*",
    ],
)
def test_locations_that_are_no_plain_name_are_refused(saved: Callable, refused: Callable, location: str) -> None:
    path = saved(in_initializer(external(location=location, length=8)))
    (path.parent / "w.bin").write_bytes(bytes(8))
    refused(check_onnx, path, UnsafeSourceError, repr(location)[1:-1])


@pytest.mark.parametrize("key", ["offset", "length"])
@pytest.mark.parametrize("value", [-1, "-0", "0x8", " 8", "8.0", "1e9", "", "9" * 30, "٣"])
def test_offsets_and_lengths_that_are_no_plain_numbers_are_refused(
    saved: Callable, refused: Callable, key: str, value: object
) -> None:
    path = saved(in_initializer(external(location="w.bin", **{key: value})))
    (path.parent / "w.bin").write_bytes(bytes(8))
    refused(check_onnx, path, UnsafeSourceError, key)


@pytest.mark.parametrize(("offset", "length"), [(0, 9), (8, 1), (9, 0), (10**17, 8), (0, 10**17), (4, 8)])
def test_data_beyond_the_end_of_their_file_are_a_format_error(
    saved: Callable, refused: Callable, offset: int, length: int
) -> None:
    path = saved(in_initializer(external(location="w.bin", offset=offset, length=length)))
    (path.parent / "w.bin").write_bytes(bytes(8))
    refused(check_onnx, path, SourceFormatError, "w.bin", "has 8")


def test_a_missing_data_file_is_a_format_error(saved: Callable, refused: Callable) -> None:
    refused(check_onnx, saved(in_initializer(external(location="w.bin"))), SourceFormatError, "'w.bin'", "not there")


def test_external_data_are_checked_even_if_the_tensor_says_it_has_its_own(saved: Callable, refused: Callable) -> None:
    tensor = external(location="../w.bin")
    tensor.data_location = TensorProto.DEFAULT
    refused(check_onnx, saved(in_initializer(tensor)), UnsafeSourceError, "../w.bin")


def test_two_locations_for_one_tensor_are_refused(saved: Callable, refused: Callable) -> None:
    tensor = external(location="w.bin")
    tensor.external_data.add(key="location", value="../w.bin")
    refused(check_onnx, saved(in_initializer(tensor)), UnsafeSourceError, "two entries 'location'")


@pytest.mark.parametrize("domain", ["my.company", "ai.onnx.contrib", "trt.plugins", "com.microsoft.nchwc"])
def test_custom_operators_are_a_format_error_wherever_they_are(saved: Callable, refused: Callable, domain: str) -> None:
    node = helper.make_node("Fancy", ["x"], ["y"], name="fancy", domain=domain)
    refused(check_onnx, saved(model_of([node])), SourceFormatError, "node fancy", f"{domain}::Fancy", "custom operator")
    inner = helper.make_graph([node], "branch", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    flag = numpy_helper.from_array(np.array(True), "flag")
    branch = helper.make_node("If", ["flag"], ["y"], then_branch=inner, else_branch=inner)
    refused(check_onnx, saved(model_of([branch], [flag])), SourceFormatError, f"{domain}::Fancy")


def test_operators_of_onnx_and_of_the_model_itself_pass(saved: Callable) -> None:
    check_onnx(saved(in_function(numpy_helper.from_array(np.ones(2, np.float32), "w"))))
    for domain, name in (("ai.onnx", "Relu"), ("ai.onnx.ml", "Scaler"), ("com.microsoft", "Gelu")):
        check_onnx(saved(model_of([helper.make_node(name, ["x"], ["y"], domain=domain)])))


@pytest.mark.parametrize("name", ["EPContext", "PyOp"])
def test_operators_that_read_files_or_run_code_are_refused(saved: Callable, refused: Callable, name: str) -> None:
    node = helper.make_node(name, ["x"], ["y"], domain="com.microsoft")
    refused(check_onnx, saved(model_of([node])), UnsafeSourceError, name)


@pytest.mark.parametrize("content", [b"\x08\x07", b"\x08", b"\xff" * 50, b"\x3a\x00", b"hello"])
def test_what_is_no_model_is_a_format_error(tmp_path: Path, refused: Callable, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    refused(check_onnx, tmp_path / "a.onnx", SourceFormatError)


def test_a_model_nested_without_end_is_a_format_error(tmp_path: Path, refused: Callable) -> None:
    content = b""
    for _ in range(2_000):  # graph, node, attribute, graph ...
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            content = tag + helper_length(content) + content
    (tmp_path / "a.onnx").write_bytes(b"\x08\x09\x3a" + helper_length(content) + content)
    refused(check_onnx, tmp_path / "a.onnx", SourceFormatError)


def helper_length(content: bytes) -> bytes:
    """The protobuf number of a length."""
    value, out = len(content), b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def test_the_walk_reaches_every_field_that_can_hold_a_tensor_or_a_node() -> None:
    """What the walk is given by the descriptors covers at least the fields known today."""
    holders = onnx_files._HOLDERS
    assert set(holders["onnx.ModelProto"]) >= {"graph", "functions", "training_info"}
    assert set(holders["onnx.GraphProto"]) >= {"node", "initializer", "sparse_initializer"}
    assert set(holders["onnx.AttributeProto"]) >= {"t", "g", "tensors", "graphs", "sparse_tensor", "sparse_tensors"}
    assert set(holders["onnx.FunctionProto"]) >= {"node", "attribute_proto"}
    assert set(holders["onnx.SparseTensorProto"]) == {"values", "indices"}
    assert set(holders["onnx.TrainingInfoProto"]) == {"initialization", "algorithm"}
    assert holders["onnx.TensorProto"] == []
