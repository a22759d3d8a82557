"""Networks worth a GPU, with random weights: the shapes of ResNet-50, EfficientNet-Lite0 and BERT-base."""

from __future__ import annotations

import itertools

import torch
from torch import nn

# repeats, kernel, stride, expansion, channels out: Tan and Le, 2019, without squeeze-and-excitation
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))  # fmt: skip
WORDS = 30522  # BERT's vocabulary


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution that keeps the side, or divides it by the stride, and its normalisation."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return [layer, nn.BatchNorm2d(outputs)]


class Around(nn.Module):
    """Layers and the way around them; `way` brings that way to the same shape."""

    def __init__(self, layers: list[nn.Module], way: list[nn.Module], end: nn.Module) -> None:
        super().__init__()
        self.layers, self.way, self.end = nn.Sequential(*layers), nn.Sequential(*way), end

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any image-like tensor."""
        out: torch.Tensor = self.end(self.layers(x) + self.way(x))
        return out


def resnet50(width: int = 64) -> nn.Module:
    """Image FP32 [batch, 3, height, width] to 1,000 logits (He et al., 2015, table 1, 50 layers)."""
    blocks: list[nn.Module] = []
    inputs = width
    for stage, repeats in enumerate((3, 4, 6, 3)):
        inside = width * 2**stage
        for number in range(repeats):
            stride = 2 if stage and not number else 1
            layers = [*conv(inputs, inside, 1), nn.ReLU(), *conv(inside, inside, 3, stride), nn.ReLU()]
            way = [] if number else conv(inputs, 4 * inside, 1, stride)
            blocks.append(Around([*layers, *conv(inside, 4 * inside, 1)], way, nn.ReLU()))
            inputs = 4 * inside
    begin = [*conv(3, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(*begin, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000))


class ImageClassifier(nn.Module):
    """Photograph UINT8 [batch, side, side, 3] to probabilities [batch, 1000]; the scaling is inside."""

    def __init__(self, part: float = 1.0) -> None:
        super().__init__()
        widths = [32, *itertools.chain(*([out] * repeats for repeats, *_, out in STAGES)), 1280]
        widths = [max(8, int(width * part)) for width in widths]
        layers: list[nn.Module] = [*conv(3, widths[0], 3, 2), nn.ReLU6()]
        settings = [(k, s if not i else 1, e) for repeats, k, s, e, _ in STAGES for i in range(repeats)]
        for (inputs, outputs), (kernel, stride, expansion) in zip(
            itertools.pairwise(widths[:-1]), settings, strict=True
        ):
            wide = inputs * expansion
            block = [*conv(inputs, wide, 1), nn.ReLU6()] if expansion > 1 else []
            block += [*conv(wide, wide, kernel, stride, groups=wide), nn.ReLU6(), *conv(wide, outputs, 1)]
            keeps = stride == 1 and inputs == outputs
            layers += [Around(block, [], nn.Identity())] if keeps else block
        head = [*conv(widths[-2], widths[-1], 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.layers = nn.Sequential(*layers, *head, nn.Linear(widths[-1], 1000), nn.Softmax(-1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Scale, and classify."""
        x = (image.permute(0, 3, 1, 2).to(self.layers[0].weight.dtype) - 127.0) / 128.0  # type: ignore[arg-type]
        out: torch.Tensor = self.layers(x)
        return out


class Bert(nn.Module):
    """Word numbers INT64 [batch, tokens] to two logits: BERT-base's layers (Devlin et al., 2018), no mask."""

    def __init__(self, tokens: int, layers: int = 12, width: int = 768, heads: int = 12) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, width), nn.Parameter(torch.randn(tokens, width) * 0.02)
        nn.init.normal_(self.words.weight, std=0.02)
        self.norm = nn.LayerNorm(width)
        self.heads = heads
        self.asks = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        self.mixes = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.thinks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)) for _ in range(layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * layers))
        self.end = nn.Linear(width, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """The first token's features decide."""
        x = self.norm(self.words(ids) + self.places)
        for number, (ask, mix, think) in enumerate(zip(self.asks, self.mixes, self.thinks, strict=True)):
            split = ask(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            seen = nn.functional.scaled_dot_product_attention(split[0], split[1], split[2])
            x = self.norms[2 * number](x + mix(seen.transpose(1, 2).flatten(2)))
            x = self.norms[2 * number + 1](x + think(x))
        out: torch.Tensor = self.end(x[:, 0])
        return out
