"""A repository that is right in every point, and the means to spoil one thing in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import helper

from modelport.repository.doctor import context
from modelport.repository.doctor.finding import Finding
from modelport.repository.doctor.registry import examine
from modelport.repository.doctor.repair import repair
from modelport.repository.doctor.targets import target_of

CONFIG = """\
# a comment of its owner
name: "net"
backend: "onnxruntime"
max_batch_size: 8
input [
  {
    name: "x"
    data_type: TYPE_FP32
    dims: [ 3 ]
  }
]
output { name: "y" data_type: TYPE_FP32 dims: [ 3 ] }
instance_group { count: 2 kind: KIND_GPU }
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
dynamic_batching {
  default_queue_policy { max_queue_size: 64 }
}
version_policy { specific { versions: [ 1 ] } }
"""


def write_onnx(
    path: Path,
    *,
    shape: Sequence[int | str] | None = ("batch", 3),
    opset: int = 20,
    ir: int = 10,
    dtype: int = onnx.TensorProto.FLOAT,
    location: str = "",
    domains: Mapping[str, int] | None = None,
    names: tuple[str, str] = ("x", "y"),
) -> None:
    """y = x + c."""
    tensors = [helper.make_tensor_value_info(name, dtype, shape) for name in names]
    constant = helper.make_tensor("c", dtype, [1], [1.0])
    if location:
        constant.data_location = onnx.TensorProto.EXTERNAL
        constant.external_data.add(key="location", value=location)
    node = helper.make_node("Add", [names[0], "c"], [names[1]])
    graph = helper.make_graph([node], "graph", tensors[:1], tensors[1:], [constant])
    opsets = [helper.make_opsetid(domain, number) for domain, number in {"": opset, **(domains or {})}.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=ir).SerializeToString())


def write_torchscript(path: Path) -> None:
    """scores = first + second."""

    class Net(torch.nn.Module):
        def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            return first + second

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.jit.save(torch.jit.script(Net()), str(path))


class Builder:
    """A repository with the right model `net`; its methods add to it and spoil it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.net = self.model("net")

    @property
    def state(self) -> Path:
        return self.root.with_name(f"{self.root.name}.state")

    def model(
        self, name: str, *, config: str | None = CONFIG, versions: Sequence[str] = ("1",), **options: Any
    ) -> Path:
        """A model named `name` with these versions of an ONNX file."""
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        if config is not None:
            (folder / "config.pbtxt").write_text(config.replace('name: "net"', f'name: "{name}"'))
        for version in versions:
            write_onnx(folder / version / "model.onnx", **options)
        return folder

    def config(self, *changes: tuple[str, str], add: str = "") -> Path:
        """Change the text of net's configuration; each (old, new) is found in it."""
        path = self.net / "config.pbtxt"
        text = path.read_text()
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        path.write_text(text + add)
        return path

    def onnx(self, **options: Any) -> None:
        """Write net's version 1 with other options."""
        write_onnx(self.net / "1" / "model.onnx", **options)

    def file(self, name: str, content: str | bytes = "x") -> Path:
        """A file below the repository's root."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def pytorch(
        self, *, inputs: Sequence[str] = ("first", "second"), dtype: str = "TYPE_FP32", dims: str = "3"
    ) -> None:
        """Make net a TorchScript model of two arguments."""
        tensors = "".join(f'input {{ name: "{name}" data_type: {dtype} dims: 3 }}\n' for name in inputs)
        text = CONFIG.replace("onnxruntime", "pytorch").replace("intra_op_thread_count", "INTRA_OP_THREAD_COUNT")
        start, end = text.index("input ["), text.index("output {")
        (self.net / "config.pbtxt").write_text(text[:start] + tensors + text[end:])
        (self.net / "1" / "model.onnx").unlink()
        write_torchscript(self.net / "1" / "model.pt")

    def ensemble(self, *, step: str = "net", more: str = "", output: str = "b", key: str = "x", **numbers: int) -> Path:
        """Add an ensemble `flow` of one step."""
        folder = self.root / "flow"
        (folder / "1").mkdir(parents=True)
        batch, version = numbers.get("batch", 8), numbers.get("version", -1)
        (folder / "config.pbtxt").write_text(
            f'name: "flow"\nplatform: "ensemble"\nmax_batch_size: {batch}\n'
            'input { name: "a" data_type: TYPE_FP32 dims: 3 }\n'
            f'output {{ name: "{output}" data_type: TYPE_FP32 dims: 3 }}\n'
            "ensemble_scheduling {\n"
            f'  step {{ model_name: "{step}" model_version: {version} input_map {{ key: "{key}" value: "a" }}\n'
            '    output_map { key: "y" value: "b" } }\n'
            "}\n"
            f"version_policy {{ specific {{ versions: 1 }} }}\n{more}"
        )
        return folder

    def bytes(self) -> dict[str, bytes | str]:
        """Every file and link of the repository and the state folder, locks aside."""
        found: dict[str, bytes | str] = {}
        for top in (self.root, self.state):
            for path in sorted(top.rglob("*")):
                name = path.relative_to(self.root.parent).as_posix()
                if path.is_symlink():
                    found[name] = str(path.readlink())
                elif path.is_file() and "lock" not in path.name:
                    found[name] = path.read_bytes()
        return found


@pytest.fixture
def repo(tmp_path: Path) -> Builder:
    """A repository that is right in every point."""
    return Builder(tmp_path / "model_repository")


@pytest.fixture
def look() -> Callable[..., list[Finding]]:
    """`look(repo, target="26.09", names=())`: everything that is found."""

    def act(repo: Builder, target: str = "26.09", names: Sequence[str] = ()) -> list[Finding]:
        return examine(context.read(repo.root, target_of(target), names))

    return act


@pytest.fixture
def fix() -> Callable[..., list[str]]:
    """`fix(repo, names=(), target="26.09")`: what was done."""
    return lambda repo, names=(), target="26.09": repair(repo.root, target_of(target), tuple(names))
