"""resnet18, resnet18_torchscript: ResNet-18 in both formats, trained here or with torchvision's published file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from networks.resnet import ResNet18

from modelport.commands.build import main
from modelport.convert.source_files import load_weights
from modelport.recipes import images
from modelport.recipes.recipe import Evaluation, Options, Recipe, Trained
from modelport.recipes.training import fit
from modelport.repository.card import Card

MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
COMMON = {"name": "resnet18", "output_names": ("logits",)}


def fashion(options: Options) -> Trained:
    """Trained here on Fashion-MNIST."""
    data = images.fashion_mnist(options.data, options.report)
    rows = options.rows(12_000)
    train, test = (
        np.repeat((pixels / 255).astype(np.float32)[:, None], 3, axis=1)
        for pixels in (data.train[:rows], data.test[:1000])
    )
    torch.manual_seed(0)
    model = ResNet18(classes=10).to(memory_format=torch.channels_last)
    targets = torch.from_numpy(data.train_labels[:rows])
    fit(model, torch.from_numpy(train), targets, learning_rate=1e-3, epochs=1, batch_size=48, report=options.report)
    card = Card(
        title="ResNet-18 for clothes",
        description="Takes an image of 28x28 pixels, three (equal) channels in front, 0 to 1; gives ten logits.",
        source=f"trained by its recipe on {rows} images, once through; parameter names are torchvision's",
        data=data.origin,
        licence="weights Apache-2.0, data MIT",
    )
    scored = Evaluation(inputs={"image": test}, truth=data.test_labels[:1000], metrics=("accuracy",))
    model = model.to(memory_format=torch.contiguous_format)
    return Trained(model=model, labels=data.labels, evaluation=scored, card=card, **COMMON)


def published(options: Options) -> Trained:
    """torchvision's weights for ImageNet, from the file that the user has."""
    model = ResNet18(classes=1000)
    load_weights(model, options.weights)
    data = images.photographs(224, options.report)
    pixels = ((data.images / np.float32(255) - MEAN) / DEVIATION).transpose(0, 3, 1, 2)
    card = Card(
        title="ResNet-18 for photographs",
        description="Takes a photograph of 224x224 pixels, channels in front, 0 to 1 less the mean "
        f"{MEAN.tolist()}, divided by {DEVIATION.tolist()}; gives a logit for each class of ImageNet.",
        source=f"weights from the file {options.weights.name}",
        data=f"trained by its authors on ImageNet-1k; scored here on {data.origin}",
        licence="weights as published (torchvision: BSD-3-Clause), photographs as named",
    )
    scored = Evaluation(inputs={"image": np.ascontiguousarray(pixels)}, truth=data.right, metrics=("top5",))
    return Trained(model=model, labels=data.labels, evaluation=scored, card=card, **COMMON)


def build(options: Options) -> list[Trained]:
    onnx = published(options) if options.weights else fashion(options)
    return [onnx, replace(onnx, name="resnet18_torchscript", format="torchscript")]


RECIPE = Recipe(models=("resnet18", "resnet18_torchscript"), build=build, takes_weights=True)

if __name__ == "__main__":
    main(RECIPE, __file__)
