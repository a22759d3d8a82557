"""digits_cnn: handwritten digits with a small Keras convolutional network."""

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

GATE = Gate(metric="accuracy", min=0.95, max_drop=0.005)


def scored(digits: images.LabelledImages) -> Evaluation:
    test = (digits.test[:1000, ..., None] / 255).astype(np.float32)
    return Evaluation(inputs={"image": test}, truth=digits.test_labels[:1000], metrics=("accuracy",), gates=(GATE,))


def evaluation_data(options: Options) -> dict[str, Evaluation]:
    return {"digits_cnn": scored(images.mnist(options.data, options.report))}


def build(options: Options) -> list[Trained]:
    digits = images.mnist(options.data, options.report)
    rows = options.rows(len(digits.train))
    train = (digits.train[:rows, ..., None] / 255).astype(np.float32)
    shifts = ((0, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))  # pixels down and right

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    options.report("training")
    shifted = np.concatenate([np.roll(train, shift, axis=(1, 2)) for shift in shifts])
    slower = keras.optimizers.schedules.CosineDecay(3e-3, len(shifted) // 64)
    model.compile(keras.optimizers.Adam(slower), "sparse_categorical_crossentropy")
    model.fit(shifted, np.tile(digits.train_labels[:rows], len(shifts)), batch_size=64, verbose=0)
    card = Card(
        title="Handwritten digits",
        description="Takes a grey image of 28x28 pixels, 0 (paper) to 1 (ink), gives a probability for each digit.",
        source=f"trained by its recipe on {rows} images and four shifted copies of each: Keras Sequential, "
        "two Conv2D(32, 3), Dense 10",
        data=digits.origin,
        licence="weights Apache-2.0, data as named",
    )
    return [
        Trained(
            name="digits_cnn",
            model=model,
            output_names=("probabilities",),
            labels=digits.labels,
            instance_count=2,  # many small requests: one computes while the other's answers go out
            evaluation=scored(digits),
            card=card,
        )
    ]


RECIPE = Recipe(models=("digits_cnn",), build=build, evaluation_data=evaluation_data)

if __name__ == "__main__":
    main(RECIPE, __file__)
