"""Tiny models, and versions of them that were exported once for all tests of the commands."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelport.commands.export import export
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository import switch
from modelport.repository.manifest import Manifest
from modelport.repository.publish import publish, staged
from modelport.repository.record import Record
from modelport.spec import ModelSpec, TensorSpec, dtype_of


class Net(torch.nn.Module):
    """A linear layer, or a function of it and the input."""

    def __init__(self, function: Callable[[Any, torch.Tensor], Any] = lambda net, x: net.linear(x).softmax(1)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(3, 2)
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, x)


def samples(rows: int = 8) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, 3)).astype(np.float32)


@pytest.fixture(scope="session")
def net() -> type[Net]:
    """`net(function)`: a module that computes `function(net, x)`."""
    return Net


@pytest.fixture(scope="session")
def x() -> np.ndarray:
    """Eight samples for it."""
    return samples()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository: `scores` (onnx, two versions), `traced` (torchscript), `mixing` (no batch axis), for reading."""
    repository = tmp_path_factory.mktemp("exported") / "model_repository"
    common: dict[str, Any] = {"repository": repository, "example_inputs": {"x": samples()}, "output_names": ["scores"]}
    for _ in range(2):
        export(Net(), name="scores", labels=["cat", "dog"], **common)
    export(Net(), name="traced", format="torchscript", **common)
    export(Net(lambda net, x: x - x.mean(0)), name="mixing", format="torchscript", **common)
    return repository


@pytest.fixture
def repository(exported: Path, tmp_path: Path) -> Path:
    """A copy of `exported` that a test may change."""
    return Path(shutil.copytree(exported, tmp_path / "model_repository"))


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """An empty place for `shelve`."""
    return tmp_path / "shelf"


@pytest.fixture
def shelve(shelf: Path) -> Callable[..., Path]:
    """`shelve(metrics=..., content=...)`: publish the next version of `net`, of bytes that no server would load."""
    spec = ModelSpec(
        name="net",
        inputs=(TensorSpec(name="x", dtype=dtype_of("FP32"), dims=(3,)),),
        outputs=(TensorSpec(name="y", dtype=dtype_of("FP32"), dims=(2,)),),
        max_batch_size=32,
    )
    config = configs.build(spec, backend="onnxruntime", filename="model.onnx", versions=[])

    def act(content: bytes = b"weights", **facts: Any) -> Path:
        def finish(folder: Path, version: int) -> None:
            files = manifests.records(folder)
            made = "2026-01-02T03:04:05+00:00"
            about: dict[str, Any] = {"format": "onnx", "backend": "onnxruntime", "framework": "pytorch 2", **facts}
            manifests.write(folder, Manifest(spec=spec, version=version, created=made, files=files, **about))

        with staged(shelf, "net") as staging:
            (staging / "model.onnx").write_bytes(content)
            return publish(shelf, staging, config, finish=finish).folder

    return act


@pytest.fixture
def stand(shelf: Path) -> Callable[..., None]:
    """`stand([2, 3], way_back=(2,))`: what `net` has loaded, and its record."""

    def act(loaded: list[int], **record: Any) -> None:
        config, _ = switch.read(shelf, "net")
        configs.set_versions(config, loaded)
        switch.write(shelf, "net", config, Record(**record))

    return act
