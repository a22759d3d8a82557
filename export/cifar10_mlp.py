"""cifar10_mlp: a Keras functional model, saved as a legacy HDF5 file and exported from that file."""

from __future__ import annotations

import os

import numpy as np
from modelport.commands.build import main

from modelport.errors import DataError
from modelport.recipes import datasets
from modelport.recipes.recipe import Evaluation, Options, Recipe, Trained
from modelport.repository.card import Card

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
from keras import layers


def photographs(options: Options) -> datasets.LabelledImages:
    """CIFAR-10 where its loader reaches it, else Fashion-MNIST."""
    if options.data != "package":
        try:
            return datasets.cifar10(options.report)
        except DataError:
            if options.data == "loader":
                raise
    return datasets.fashion_mnist(options.data, options.report)


def as_colour(images: np.ndarray) -> np.ndarray:
    """FP32 [n, 32, 32, 3] from 0 to 1; smaller grey images get a margin of 2 pixels and three equal channels."""
    if images.ndim == 3:
        images = np.repeat(np.pad(images, ((0, 0), (2, 2), (2, 2)))[..., None], 3, axis=3)
    return (images / 255).astype(np.float32)


def build(options: Options) -> list[Trained]:
    data = photographs(options)
    rows = options.rows(20_000)
    train, test = as_colour(data.train[:rows]), as_colour(data.test[:500])

    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3), name="image")
    hidden = layers.Dense(256, activation="relu")(layers.Flatten()(image))
    hidden = layers.Dense(128, activation="relu")(hidden)
    model = keras.Model(image, layers.Dense(10, activation="softmax", name="probabilities")(hidden))
    options.report("training")
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(train, data.train_labels[:rows], epochs=options.epochs(5), batch_size=128, verbose=0)
    file = options.scratch / "cifar10_mlp.h5"
    model.save(file)
    card = Card(
        title=f"Ten classes of images: {data.labels[0]}, {data.labels[1]}, ...",
        description="Takes a colour image of 32x32 pixels, 0 to 1, gives a probability for each class.",
        source=f"trained by its recipe on {rows} images: Keras functional, Dense 256, 128, 10; saved as legacy .h5",
        data=data.origin
        + (" (28x28 grey, brought to 32x32 with three equal channels)" if data.train.ndim == 3 else ""),
        licence="weights Apache-2.0, data as named",
    )
    return [
        Trained(
            name="cifar10_mlp",
            model=file,
            example_inputs={"image": train[:64]},
            output_names=("probabilities",),
            labels=data.labels,
            evaluation=Evaluation(inputs={"image": test}, truth=data.test_labels[:500], metrics=("accuracy",)),
            card=card,
        )
    ]


RECIPE = Recipe(models=("cifar10_mlp",), build=build)

if __name__ == "__main__":
    main(RECIPE, __file__)
