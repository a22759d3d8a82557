"""tabular_classifier: a Keras Sequential network for rows of a table, standardisation included."""

from __future__ import annotations

import os

import numpy as np
from sklearn.datasets import load_breast_cancer

from modelport.commands.build import main
from modelport.recipes.recipe import Evaluation, Options, Recipe, Trained
from modelport.repository.card import Card

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
from keras import layers


def build(options: Options) -> list[Trained]:
    table = load_breast_cancer(as_frame=True).frame.dropna()
    table = table.sample(frac=1, random_state=0)
    features = table.drop(columns="target").to_numpy(np.float32)
    malignant = (table["target"] == 0).to_numpy(np.int64)
    split = 400

    keras.utils.set_random_seed(0)
    standardise = layers.Normalization()
    standardise.adapt(features[:split])
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
    model.fit(features[:split], malignant[:split], epochs=options.epochs(30), batch_size=32, verbose=0)
    card = Card(
        title="Breast cancer from measured features",
        description="Takes the 30 features of a cell sample as they were measured, gives the probability that it "
        "is malignant. Standardisation is a layer of the model.",
        source="trained by its recipe: Keras Sequential, Dense 64, 32, 1",
        data=f"Wisconsin diagnostic breast cancer, in scikit-learn: {split} rows to train, {len(table) - split} to "
        "score; rows with missing values dropped",
        licence="BSD-3-Clause",
        notes="A sample of the toolkit, not a medical device. Feature order: "
        + ", ".join(table.columns.drop("target"))
        + ".",
    )
    return [
        Trained(
            name="tabular_classifier",
            model=model,
            output_names=("probability",),
            labels=("malignant",),
            evaluation=Evaluation(
                inputs={"features": features[split:]},
                truth=malignant[split:],
                metrics=("accuracy", "precision", "recall", "f1"),
            ),
            card=card,
        )
    ]


RECIPE = Recipe(models=("tabular_classifier",), build=build)

if __name__ == "__main__":
    main(RECIPE, __file__)
