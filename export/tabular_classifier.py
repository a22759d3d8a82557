"""tabular_classifier: a Keras Sequential network for rows of a table, standardisation included."""

from __future__ import annotations

import os

import numpy as np
from sklearn.datasets import load_breast_cancer

from modelport.commands.build import main
from modelport.recipes.recipe import Evaluation, Options, Recipe, Trained
from modelport.repository.card import Card
from modelport.repository.gate import Gate

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
from keras import layers

SPLIT = 400  # rows to train with
GATE = Gate(metric="accuracy", min=0.95, max_drop=0.01)


def read() -> tuple[list[str], np.ndarray, np.ndarray]:
    """The names of the features, the features of each row, and whether it is malignant."""
    table = load_breast_cancer(as_frame=True).frame.dropna()
    table = table.sample(frac=1, random_state=0)
    features = table.drop(columns="target")
    return list(features.columns), features.to_numpy(np.float32), (table["target"] == 0).to_numpy(np.int64)


def evaluation_data(options: Options) -> dict[str, Evaluation]:
    _, features, malignant = read()
    metrics = ("accuracy", "precision", "recall", "f1")
    inputs, truth = {"features": features[SPLIT:]}, malignant[SPLIT:]
    return {"tabular_classifier": Evaluation(inputs=inputs, truth=truth, metrics=metrics, gates=(GATE,))}


def build(options: Options) -> list[Trained]:
    names, features, malignant = read()

    keras.utils.set_random_seed(0)
    standardise = layers.Normalization()
    standardise.adapt(features[:SPLIT])
    model = keras.Sequential(
        [
            keras.Input((30,), name="features"),
            standardise,
            layers.Dense(64, activation="relu"),
            layers.Dense(32, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    options.report("training")
    model.compile("adam", "binary_crossentropy")
    model.fit(features[:SPLIT], malignant[:SPLIT], epochs=options.epochs(30), batch_size=32, verbose=0)
    card = Card(
        title="Breast cancer from measured features",
        description="Takes the 30 features of a cell sample as they were measured, gives the probability that it "
        "is malignant. Standardisation is a layer of the model.",
        source="trained by its recipe: Keras Sequential, Dense 64, 32, 1",
        data=f"Wisconsin diagnostic breast cancer, in scikit-learn: {SPLIT} rows to train, {len(features) - SPLIT} to "
        "score; rows with missing values dropped",
        licence="BSD-3-Clause",
        notes="A sample of the toolkit, not a medical device. Feature order: " + ", ".join(names) + ".",
    )
    return [
        Trained(
            name="tabular_classifier",
            model=model,
            output_names=("probability",),
            labels=("malignant",),
            evaluation=evaluation_data(options)["tabular_classifier"],
            card=card,
        )
    ]


RECIPE = Recipe(models=("tabular_classifier",), build=build, evaluation_data=evaluation_data)

if __name__ == "__main__":
    main(RECIPE, __file__)
