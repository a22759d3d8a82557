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
