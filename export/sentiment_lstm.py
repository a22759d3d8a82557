"""sentiment_lstm: word numbers of a review to its sentiment; reviews of any length."""

from __future__ import annotations

import numpy as np
from networks.reviews import EncodedReviews, load
from networks.text import trained

from modelport.commands.build import main
from modelport.recipes.recipe import Evaluation, Options, Recipe, Trained
from modelport.repository.card import Card
from modelport.repository.gate import Gate

GATE = Gate(metric="accuracy", min=0.82, max_drop=0.01)


def scored(data: EncodedReviews) -> Evaluation:
    words = (data.test != 0).sum(axis=1)
    return Evaluation(
        inputs={"tokens": data.test},
        truth=data.test_labels,
        metrics=("accuracy",),
        padded=True,
        slices={"words": np.where(words <= np.median(words), "fewer", "more")},
        gates=(GATE,),
    )


def evaluation_data(options: Options) -> dict[str, Evaluation]:
    return {"sentiment_lstm": scored(load(options))}


def build(options: Options) -> list[Trained]:
    data = load(options)
    card = Card(
        title="Sentiment of a review, from word numbers",
        description="Takes the numbers of a review's words (INT64, as many as there are), gives the probability "
        "that it is negative and that it is positive. For text in, use the model text_classifier.",
        source=f"trained by its recipe on {len(data.train)} reviews: PyTorch embedding, LSTM, linear on the last step",
        data=data.origin,
        licence="weights Apache-2.0, data CC0",
        notes="The rows of a request have one length: fill shorter ones up with 0 at the end. The last step is the "
        "last word before the zeros, so they do not change the answer. The words' numbers are the lines of "
        "vocabulary.txt of the model text_tokenizer, the first line being 2; 1 is any other word.",
    )
    return [
        Trained(
            name="sentiment_lstm",
            model=trained(data, 64, options),
            output_names=("probabilities",),
            dynamic_axes={"tokens": {1: "time"}},
            pad={"tokens": 0},
            instance_count=2,  # a second thread has nothing to do in a recurrent network
            labels=data.labels,
            evaluation=scored(data),
            card=card,
        )
    ]


RECIPE = Recipe(models=("sentiment_lstm",), build=build, evaluation_data=evaluation_data)

if __name__ == "__main__":
    main(RECIPE, __file__)
