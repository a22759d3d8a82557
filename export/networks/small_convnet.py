"""A small classifier of images, to be taught by a large one."""

from __future__ import annotations

import torch
from torch import nn


class SmallConvNet(nn.Module):
    """Image FP32 [batch, 3, height, width] to logits [batch, classes]: three convolutions that halve the sides."""

    def __init__(self, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        layers, channels = [], 3
        for outputs in (width, 2 * width, 4 * width):
            layers += [nn.Conv2d(channels, outputs, 3, 2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            channels = outputs
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(channels, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(image).mean(dim=(2, 3)))
