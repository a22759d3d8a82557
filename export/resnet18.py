"""resnet18, resnet18_torchscript: ResNet-18 in both formats, trained here or with torchvision's published file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from modelport.commands.build import main
from networks.resnet import ResNet18

from modelport.convert.source_files import load_weights
from modelport.recipes import datasets
from modelport.recipes.recipe import Evaluation, Options, Recipe, Trained
from modelport.recipes.training import fit
from modelport.repository.card import Card

MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def published(options: Options) -> Trained:
    """torchvision's ResNet-18 for ImageNet, from the file that the user has."""
    model = ResNet18(classes=1000)
    load_weights(model, options.weights)
    data = datasets.photographs(224, options.report)
    images = np.ascontiguousarray((((data.images / np.float32(255)) - MEAN) / DEVIATION).transpose(0, 3, 1, 2))
    card = Card(
        title="ResNet-18 for photographs",
        description="Takes a photograph of 224x224 pixels, colours first, standardised with the mean and deviation "
        f"of ImageNet ({MEAN.tolist()}, {DEVIATION.tolist()}); gives a logit for each of its classes.",
        source=f"weights from the file {options.weights.name}",
        data=f"trained by its authors on ImageNet-1k; scored here on {data.origin}",
        licence="weights as published (torchvision: BSD-3-Clause), photographs as named",
    )
    evaluation = Evaluation(inputs={"image": images}, truth=data.right, metrics=("top5",))
    return trained(model, images, data.labels, evaluation, card)


def fashion(options: Options) -> Trained:
    """ResNet-18 trained on Fashion-MNIST."""
    data = datasets.fashion_mnist(options.data, options.report)
    rows = options.rows(15_000)
    train, test = (as_colour(data.train[:rows]), as_colour(data.test[:500]))
    torch.manual_seed(0)
    model = ResNet18(classes=10)
    fit(
        model.to(memory_format=torch.channels_last),
        torch.from_numpy(train),
        torch.from_numpy(data.train_labels[:rows]),
        learning_rate=2e-3,
        epochs=1,
        report=options.report,
    )
    card = Card(
        title="ResNet-18 for clothes",
        description="Takes an image of 28x28 pixels with three (equal) channels in front, 0 to 1; gives a logit for "
        "each of ten kinds of clothes.",
        source=f"trained by its recipe on {rows} images, once through; parameter names are torchvision's",
        data=data.origin,
        licence="weights Apache-2.0, data MIT",
    )
    evaluation = Evaluation(inputs={"image": test}, truth=data.test_labels[:500], metrics=("accuracy",))
    return trained(model.to(memory_format=torch.contiguous_format), train[:64], data.labels, evaluation, card)


def as_colour(images):
    """FP32 [n, 3, 28, 28] from 0 to 1."""
    return np.repeat((images / 255).astype(np.float32)[:, None], 3, axis=1)


def trained(model, examples, labels, evaluation, card):
    return Trained(
        name="resnet18",
        model=model,
        example_inputs={"image": examples},
        output_names=("logits",),
        labels=labels,
        evaluation=evaluation,
        card=card,
    )


def build(options: Options) -> list[Trained]:
    model = fashion(options) if options.weights is None else published(options)
    return [model, replace(model, name="resnet18_torchscript", format="torchscript")]


RECIPE = Recipe(models=("resnet18", "resnet18_torchscript"), build=build, takes_weights=True)

if __name__ == "__main__":
    main(RECIPE, __file__)
