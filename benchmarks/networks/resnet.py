"""ResNet-18 with random weights (He et al., "Deep Residual Learning for Image Recognition", 2015, table 1)."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from torch import nn

import modelport

NAME = "resnet18"


class Block(nn.Module):
    """Two 3x3 convolutions and the way around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.both = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        around = [nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)]
        self.around = nn.Sequential(*(around if stride != 1 or inputs != outputs else []))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any image-like tensor."""
        return torch.relu(self.both(x) + self.around(x))


def resnet18(width: int, seed: int) -> nn.Module:
    """Image FP32 [batch, 3, height, width] to 1,000 logits; its real width is 64."""
    torch.manual_seed(seed)
    sizes = [width, width, 2 * width, 4 * width, 8 * width]
    blocks: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        blocks += [Block(inputs, outputs, 2 if number else 1), Block(outputs, outputs, 1)]
    begin = [nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    net = nn.Sequential(*begin, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, 1000))
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return net


def publish(repository: Path, *, versions: int, image: int, width: int) -> int:
    """Publish versions with other weights each; the first one serves.

    Args:
        repository: The model repository.
        versions: How many.
        image: Height and width of the input in pixels.
        width: Channels of the first layer; 64 in ResNet-18.

    Returns:
        Size of one version's model file in bytes.
    """
    inputs = {"image": np.random.default_rng(0).standard_normal((16, 3, image, image), dtype=np.float32)}
    for seed in range(versions):
        done = modelport.export(
            resnet18(width, seed), name=NAME, repository=repository, example_inputs=inputs, output_names=["logits"]
        )
    return (done.folder / "model.onnx").stat().st_size
