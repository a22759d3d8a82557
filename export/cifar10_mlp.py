"""cifar10_mlp: a Keras functional model, saved as a legacy HDF5 file and exported from that file."""

from __future__ import annotations

import os

import numpy as np

from modelport.commands.build import main
from modelport.recipes import images
from modelport.recipes.recipe import Evaluation, Options, Recipe, Trained
from modelport.repository.card import Card
from modelport.repository.gate import Gate

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
from keras import layers

GATE = Gate(metric="accuracy", min=0.84, max_drop=0.02)


def scored(data: images.LabelledImages) -> Evaluation:
    test = (data.test[:500] / 255).astype(np.float32)
    return Evaluation(inputs={"image": test}, truth=data.test_labels[:500], metrics=("accuracy",), gates=(GATE,))


def evaluation_data(options: Options) -> dict[str, Evaluation]:
    return {"cifar10_mlp": scored(images.cifar10(options.data, options.report))}


def build(options: Options) -> list[Trained]:
    data = images.cifar10(options.data, options.report)
    rows = options.rows(20_000)
    train = (data.train[:rows] / 255).astype(np.float32)

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
        data=data.origin,
        licence="weights Apache-2.0, data as named",
    )
    return [
        Trained(
            name="cifar10_mlp",
            model=file,
            output_names=("probabilities",),
            labels=data.labels,
            evaluation=scored(data),
            card=card,
        )
    ]


RECIPE = Recipe(models=("cifar10_mlp",), build=build, evaluation_data=evaluation_data)

if __name__ == "__main__":
    main(RECIPE, __file__)
