"""Networks of the shapes of some sample models, with random weights: for measuring without building those."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import resnet

import modelport

CORES = len(os.sched_getaffinity(0))


def publish(repository: Path, names: Sequence[str]) -> Path:
    """Publish some of `digits_cnn`, `linear_regression` and (narrower than the real one) `resnet18`."""
    for name in names:
        torch.manual_seed(0)
        MAKERS[name](repository)
    return repository


def digits(repository: Path) -> None:
    """A CNN of the size of the digits CNN, with an instance per core."""
    net = torch.nn.Sequential(
        torch.nn.Flatten(1), torch.nn.Unflatten(1, (1, 28, 28)),
        torch.nn.Conv2d(1, 32, 3), torch.nn.ReLU(), torch.nn.Conv2d(32, 32, 3), torch.nn.ReLU(),
        torch.nn.Flatten(), torch.nn.Linear(18432, 10), torch.nn.Softmax(1),
    )  # fmt: skip
    inputs = {"image": np.random.default_rng(0).random((4, 28, 28, 1), dtype=np.float32)}
    modelport.export(
        net, name="digits_cnn", repository=repository, example_inputs=inputs, output_names=["probabilities"],
        instance_count=CORES,
    )  # fmt: skip


def line(repository: Path, name: str = "linear_regression", **how: Any) -> None:
    """A straight line; `how` goes to `modelport.export`."""
    inputs = {"x": np.random.default_rng(0).random((4, 1), dtype=np.float32)}
    net = torch.nn.Linear(1, 1)
    modelport.export(net, name=name, repository=repository, example_inputs=inputs, output_names=["y"], **how)


def small_resnet(repository: Path) -> None:
    """A ResNet-18 with a quarter of the channels, for 28x28 pixels."""
    resnet.publish(repository, versions=1, image=28, width=16)


MAKERS: dict[str, Callable[[Path], None]] = {
    "digits_cnn": digits, "linear_regression": line, "resnet18": small_resnet,
}  # fmt: skip
