"""resnet18, resnet18_torchscript: ResNet-18 in both formats, trained here or with torchvision's published file."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from networks.resnet import ResNet18
from networks.small_convnet import SmallConvNet

from modelport.commands.build import main
from modelport.convert.source_files import load_weights
from modelport.recipes import images
from modelport.recipes.recipe import Evaluation, Options, Recipe, Student, Trained, Training
from modelport.recipes.training import fit
from modelport.repository.card import Card
from modelport.repository.gate import Gate

MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
LABELLED = 2000  # of the images that the student is taught with
COMMON = {"name": "resnet18", "output_names": ("logits",)}
GATE = Gate(metric="accuracy", min=0.83, max_drop=0.02)
GATE_OF_PHOTOGRAPHS = Gate(metric="top5", min=0.9, max_drop=0.1)  # of fourteen pictures, one may be lost


def clothes(options: Options) -> tuple[np.ndarray, np.ndarray, images.LabelledImages]:
    """Images to train and to score with, as callers send them, and where they come from."""
    data = images.fashion_mnist(options.data, options.report)
    return three_channels(data.train[: options.rows(12_000)]), three_channels(data.test[:1000]), data


def three_channels(pixels: np.ndarray) -> np.ndarray:
    return np.repeat((pixels / 255).astype(np.float32)[:, None], 3, axis=1)


def train_further(model: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor, **options: Any) -> None:
    """The training loop, with images laid out as convolutions like them."""
    model.to(memory_format=torch.channels_last)
    fit(model, inputs, targets, **{"learning_rate": 1e-3, "batch_size": 48, **options})
    model.to(memory_format=torch.contiguous_format)


def fashion(options: Options) -> Trained:
    """Trained here on Fashion-MNIST."""
    train, test, data = clothes(options)
    torch.manual_seed(0)
    model = ResNet18(classes=10)
    targets = torch.from_numpy(data.train_labels[: len(train)])
    train_further(model, torch.from_numpy(train), targets, epochs=1, report=options.report)
    card = Card(
        title="ResNet-18 for clothes",
        description="Takes an image of 28x28 pixels, three (equal) channels in front, 0 to 1; gives ten logits.",
        source=f"trained by its recipe on {len(train)} images, once through; parameter names are torchvision's",
        data=data.origin,
        licence="weights Apache-2.0, data MIT",
    )
    return Trained(model=model, labels=data.labels, evaluation=of_clothes(test, data), card=card, **COMMON)


def of_clothes(test: np.ndarray, data: images.LabelledImages) -> Evaluation:
    return Evaluation(inputs={"image": test}, truth=data.test_labels[:1000], metrics=("accuracy",), gates=(GATE,))


def training(options: Options) -> dict[str, Training]:
    """How it is trained, and a small network that it teaches with images it has not seen, few of them labelled."""
    train, _, data = clothes(options)
    unseen = slice(len(train), len(train) + options.rows(14_000))
    known = data.train_labels[unseen].copy()
    known[LABELLED:] = -1
    small = Student(
        network=SmallConvNet,
        fit=partial(fit, learning_rate=5e-3),
        epochs=8,
        samples=three_channels(data.train[unseen]),
        targets=known,
    )
    return {
        "resnet18": Training(
            network=partial(ResNet18, classes=10),
            samples=train,
            targets=data.train_labels[: len(train)],
            fit=train_further,
            epochs=2,
            students={"small": small},
        )
    }


def published(options: Options) -> Trained:
    """torchvision's weights for ImageNet, from the file that the user has."""
    model = ResNet18(classes=1000)
    load_weights(model, options.weights)
    data = images.photographs(224, options.report)
    card = Card(
        title="ResNet-18 for photographs",
        description="Takes a photograph of 224x224 pixels, channels in front, 0 to 1 less the mean "
        f"{MEAN.tolist()}, divided by {DEVIATION.tolist()}; gives a logit for each class of ImageNet.",
        source=f"weights from the file {options.weights.name}",
        data=f"trained by its authors on ImageNet-1k; scored here on {data.origin}",
        licence="weights as published (torchvision: BSD-3-Clause), photographs as named",
    )
    return Trained(model=model, labels=data.labels, evaluation=of_photographs(data), card=card, **COMMON)


def of_photographs(data: images.Photographs) -> Evaluation:
    pixels = ((data.images / np.float32(255) - MEAN) / DEVIATION).transpose(0, 3, 1, 2)
    inputs = {"image": np.ascontiguousarray(pixels)}
    return Evaluation(inputs=inputs, truth=data.right, metrics=("top5",), gates=(GATE_OF_PHOTOGRAPHS,))


def evaluation_data(options: Options) -> dict[str, Evaluation]:
    if options.weights:
        return dict.fromkeys(RECIPE.models, of_photographs(images.photographs(224, options.report)))
    _, test, data = clothes(options)
    return dict.fromkeys(RECIPE.models, of_clothes(test, data))


def build(options: Options) -> list[Trained]:
    onnx = published(options) if options.weights else fashion(options)
    return [onnx, replace(onnx, name="resnet18_torchscript", format="torchscript")]


RECIPE = Recipe(
    models=("resnet18", "resnet18_torchscript"),
    build=build,
    takes_weights=True,
    evaluation_data=evaluation_data,
    training=training,
)

if __name__ == "__main__":
    main(RECIPE, __file__)
