"""recommender: films that people with similar taste liked; similarity and top 10 are inside the graph."""

from __future__ import annotations

import numpy as np
import torch
from networks.neighbours import Neighbours

from modelport.commands.build import main
from modelport.evaluate import metrics
from modelport.recipes import tables
from modelport.recipes.recipe import Evaluation, Options, Recipe, Trained
from modelport.repository.card import Card
from modelport.repository.gate import Gate

LIKED = 4  # stars
GATE = Gate(metric="recall_at_10", min=0.25, max_drop=0.01)


def split(data: tables.Ratings) -> tuple[np.ndarray, Evaluation]:
    """All ratings but the held-out ones [people, films], and those people who have held-out films that they liked."""
    held_out = np.random.default_rng(0).random(len(data.stars)) < 0.2
    matrix = np.zeros((data.user.max() + 1, len(data.titles)), dtype=np.float32)
    matrix[data.user[~held_out], data.item[~held_out]] = data.stars[~held_out]
    liked = np.zeros(matrix.shape, dtype=bool)
    good = held_out & (data.stars >= LIKED)
    liked[data.user[good], data.item[good]] = True
    people = np.flatnonzero(liked.any(axis=1))
    seen, truth = matrix[people], liked[people]
    return matrix, Evaluation(inputs={"ratings": seen}, truth=truth, metrics=("recall_at_10",), gates=(GATE,))


def evaluation_data(options: Options) -> dict[str, Evaluation]:
    return {"recommender": split(tables.movielens(options.report))[1]}


def build(options: Options) -> list[Trained]:
    data = tables.movielens(options.report)
    matrix, scored = split(data)
    seen, truth = scored.inputs["ratings"], scored.truth

    popular = np.where(seen > 0, -1, (matrix > 0).sum(axis=0))
    baseline = {"items": np.argsort(-popular, axis=1, kind="stable")[:, :10]}
    card = Card(
        title="Films to watch next",
        description="Takes a person's ratings of 1,682 films, 1 to 5 stars, 0 for not rated. Gives the positions of "
        "the ten films to show, and their scores. The film with the MovieLens number n is at position n - 1.",
        source="built by its recipe: cosine similarity to 943 people, the most similar counting most",
        data=f"{data.origin}; one rating in five held out. Recall: which share of the held-out films with 4 or 5 "
        f"stars is among the ten, mean over {len(seen)} people. The baseline shows the ten most rated films.",
        licence="MovieLens terms of use: research, no redistribution",
        metrics={"recall_at_10_of_popularity_baseline": metrics.score("recall_at_10", baseline, truth)},
        notes="Films that the person has rated are never shown. Without any rating it shows what is popular.",
    )
    return [
        Trained(
            name="recommender",
            model=Neighbours(torch.from_numpy(matrix)),
            output_names=("items", "scores"),
            evaluation=scored,
            card=card,
        )
    ]


RECIPE = Recipe(models=("recommender",), build=build, evaluation_data=evaluation_data)

if __name__ == "__main__":
    main(RECIPE, __file__)
