"""resnet18, resnet18_torchscript: ResNet-18 in both formats, trained here or with torchvision's published file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from networks import clothes
from networks.resnet import ResNet18

from modelport.commands.build import main
from modelport.convert.source_files import load_weights
from modelport.recipes import images
from modelport.recipes.recipe import Evaluation, Options, Recipe, Trained
from modelport.repository.card import Card
from modelport.repository.gate import Gate

MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
COMMON = {"name": "resnet18", "output_names": ("logits",)}
GATE = Gate(metric="accuracy", min=0.83, max_drop=0.02)
GATE_OF_PHOTOGRAPHS = Gate(metric="top5", min=0.9, max_drop=0.1)  # of fourteen pictures, one may be lost


def fashion(options: Options) -> Trained:
    """Trained here on Fashion-MNIST."""
    train, test, data = clothes.load(options)
    torch.manual_seed(0)
    model = ResNet18(clothes.CLASSES)
    targets = torch.from_numpy(data.train_labels[: len(train)])
    clothes.train(model, torch.from_numpy(train), targets, epochs=1, report=options.report)
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
    _, test, data = clothes.load(options)
    return dict.fromkeys(RECIPE.models, of_clothes(test, data))


def build(options: Options) -> list[Trained]:
    onnx = published(options) if options.weights else fashion(options)
    return [onnx, replace(onnx, name="resnet18_torchscript", format="torchscript")]


RECIPE = Recipe(
    models=("resnet18", "resnet18_torchscript"),
    build=build,
    takes_weights=True,
    evaluation_data=evaluation_data,
    training=lambda options: {"resnet18": clothes.training(options)},
)

if __name__ == "__main__":
    main(RECIPE, __file__)
