"""A recipe whose network is trained in no time: is the left or the right half of the picture brighter?"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from modelport.recipes.recipe import Evaluation, Options, Recipe, Student, Trained, Training
from modelport.recipes.training import fit
from modelport.repository.card import Card


class Net(torch.nn.Module):
    """Image [batch, 1, 8, 8] to two logits."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.one = torch.nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(width)
        self.two = torch.nn.Conv2d(width, width, 3, padding=1)
        self.last = torch.nn.Linear(width * 2, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.one(image)))
        x = torch.relu(self.two(x) + x)
        return self.last(torch.nn.functional.adaptive_avg_pool2d(x, (1, 2)).flatten(1))


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    images = random.random((count, 1, 8, 8), dtype=np.float32)
    right = random.integers(0, 2, count)
    images[right == 0, :, :, :4] += 0.3
    images[right == 1, :, :, 4:] += 0.3
    return images, right.astype(np.int64)


loop = partial(fit, learning_rate=0.02, batch_size=32, threads=1)


def build(options: Options) -> list[Trained]:
    torch.manual_seed(0)
    net, (images, right), (test, truth) = Net(), pictures(256, 1), pictures(200, 2)
    loop(net, torch.from_numpy(images), torch.from_numpy(right), epochs=2)
    scored = Evaluation(inputs={"image": test}, truth=truth, metrics=("accuracy",))
    card = Card(title="Halves", description="Which half is brighter.", source="made", data="made", licence="none")
    labels = ("left", "right")
    return [Trained(name="halves", model=net, evaluation=scored, card=card, labels=labels, output_names=("logits",))]


def training(options: Options) -> dict[str, Training]:
    images, right = pictures(256, 1)
    students = {
        "narrow": Student(network=partial(Net, 3), fit=loop, epochs=2),
        "half_labelled": Student(network=partial(Net, 3), fit=loop, targets=np.where(np.arange(256) < 128, right, -1)),
    }
    how = Training(network=Net, samples=images, targets=right, fit=loop, epochs=2, students=students)
    return {"halves": how}


RECIPE = Recipe(models=("halves",), build=build, training=training)
