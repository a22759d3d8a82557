"""Good model files of every kind, saved by the real frameworks, and a payload that leaves a mark when it runs."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """One good file of each kind: onnx, keras, h5, torchscript, exported_program; and of weights."""
    folder = tmp_path_factory.mktemp("samples")
    return {**_torch_samples(folder), **_keras_samples(folder), "onnx": _onnx_sample(folder)}


def _torch_samples(folder: Path) -> dict[str, Path]:
    import safetensors.torch
    import torch

    net = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval()
    torch.jit.save(torch.jit.script(net), folder / "net.pt")
    rows = {0: torch.export.Dim.DYNAMIC}
    torch.export.save(torch.export.export(net, (torch.ones(3, 6),), dynamic_shapes=(rows,)), folder / "net.pt2")
    torch.save(net.state_dict(), folder / "state_dict.bin")
    torch.save(net.state_dict(), folder / "legacy.bin", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(net.state_dict(), folder / "net.safetensors")
    return {
        "torchscript": folder / "net.pt",
        "exported_program": folder / "net.pt2",
        "state_dict": folder / "state_dict.bin",
        "legacy_state_dict": folder / "legacy.bin",
        "safetensors": folder / "net.safetensors",
    }


def _keras_samples(folder: Path) -> dict[str, Path]:
    import keras

    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(2, 3, activation="relu", name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax", name="classes"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    model.save(folder / "net.keras")
    model.save(folder / "net.h5")
    return {"keras": folder / "net.keras", "h5": folder / "net.h5"}


def _onnx_sample(folder: Path) -> Path:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(np.ones((6, 4), np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "net.onnx")
    return folder / "net.onnx"


class Payload:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.mark}'",)

    def ran(self) -> bool:
        """Whether it was loaded since the last call."""
        found = self.mark.exists()
        self.mark.unlink(missing_ok=True)
        return found


@pytest.fixture
def payload(tmp_path: Path) -> Payload:
    """`pickle.dumps(payload)` is a pickle that runs code; `payload.ran()` says whether it did."""
    return Payload(tmp_path / "the-payload-ran")


@pytest.fixture
def rezip(tmp_path: Path) -> Callable[..., Path]:
    """`rezip(path, {member: bytes or None})`: a copy of an archive with members replaced, added or left out."""

    def build(source: Path, changes: Mapping[str, bytes | None], name: str = "") -> Path:
        target = tmp_path / (name or source.name)
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
            for member in old.namelist():
                content = changes.get(member, old.read(member))
                if content is not None:
                    new.writestr(member, content)
            for member, content in changes.items():
                if member not in old.namelist() and content is not None:
                    new.writestr(member, content)
        return target

    return build


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path, str], Path]:
    """`copied(path, name)`: a copy under another name."""

    def build(source: Path, name: str) -> Path:
        return Path(shutil.copyfile(source, tmp_path / name))

    return build
