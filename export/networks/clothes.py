"""Clothes for ResNet-18 and its student: the images, the training loop, what the student learns from."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from networks.resnet import ResNet18
from networks.small_convnet import SmallConvNet

from modelport.recipes import images
from modelport.recipes.recipe import Options, Student, Training
from modelport.recipes.training import fit

CLASSES = 10
UNSEEN, LABELLED = 14_000, 2_000  # images for the student that its teacher has not seen; labelled ones of them


def load(options: Options) -> tuple[np.ndarray, np.ndarray, images.LabelledImages]:
    """Images to train and to score with, as callers send them, and where they come from."""
    data = images.fashion_mnist(options.data, options.report)
    return three_channels(data.train[: options.rows(12_000)]), three_channels(data.test[:1000]), data


def three_channels(pixels: np.ndarray) -> np.ndarray:
    """Grey values [n, height, width] as float32 [n, 3, height, width], 0 to 1."""
    return np.repeat((pixels / 255).astype(np.float32)[:, None], 3, axis=1)


def train(model: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor, **options: Any) -> None:
    """The training loop, with images laid out as convolutions like them."""
    model.to(memory_format=torch.channels_last)
    fit(model, inputs, targets, **{"learning_rate": 1e-3, "batch_size": 48, **options})
    model.to(memory_format=torch.contiguous_format)


def training(options: Options) -> Training:
    """How ResNet-18 is trained, and a small network that it teaches with images that it has not seen."""
    seen, _, data = load(options)
    unseen = slice(len(seen), len(seen) + options.rows(UNSEEN))
    known = data.train_labels[unseen].copy()
    known[LABELLED:] = -1
    small = Student(
        network=partial(SmallConvNet, CLASSES),
        fit=partial(fit, learning_rate=5e-3),
        epochs=8,
        samples=three_channels(data.train[unseen]),
        targets=known,
    )
    return Training(
        network=partial(ResNet18, CLASSES),
        samples=seen,
        targets=data.train_labels[: len(seen)],
        fit=train,
        epochs=2,
        students={"small": small},
    )
