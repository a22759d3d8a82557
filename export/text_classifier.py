"""text_classifier: text in, label out. A tokenizer, a TorchScript network and a label step joined by Triton."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from networks.reviews import EncodedReviews, load
from networks.text import ProbabilitiesAndBest, trained
from triton_models.text_labels import model as labeller
from triton_models.text_tokenizer import model as tokenizer

from modelport.commands.build import main
from modelport.recipes.recipe import Ensemble, Evaluation, Options, Product, PythonModel, Recipe, Trained
from modelport.repository.card import Card
from modelport.repository.gate import Gate

FOLDER = Path(__file__).parent / "triton_models"
STEPS = (
    ("text_tokenizer", ["text"], ["tokens"]),
    # Two outputs: Triton cannot give a tensor to the caller alone that a later step takes too.
    ("text_net", ["tokens"], ["probabilities", "best"]),
    ("text_labels", ["best"], ["label"]),
)


GATE = Gate(metric="accuracy", min=0.81, max_drop=0.02)


def texts(data: EncodedReviews) -> np.ndarray:
    return np.array(data.test_texts, dtype=object)[:, None]


def scored(data: EncodedReviews, inputs: dict[str, np.ndarray], gates: tuple[Gate, ...] = ()) -> Evaluation:
    return Evaluation(inputs=inputs, truth=data.test_labels, metrics=("accuracy",), gates=gates)


def evaluation_data(options: Options) -> dict[str, Evaluation]:
    data = load(options)
    return {"text_classifier": scored(data, {"text": texts(data)}, (GATE,))}


def build(options: Options) -> list[Product]:
    data = load(options)
    network = torch.jit.script(ProbabilitiesAndBest(trained(data, 48, options)))
    numbers = tokenizer.read_vocabulary(data.vocabulary)

    def answer(inputs, network=network):
        """What the ensemble does, in this process."""
        tokens = torch.from_numpy(tokenizer.tokens(inputs["text"].ravel().tolist(), numbers))
        with torch.inference_mode():
            probabilities, best = network(tokens)
        return {"probabilities": probabilities.numpy(), "label": labeller.label(best.numpy(), list(data.labels))}

    double = copy.deepcopy(network).double()
    both = np.array([[0], [1]])

    def card(title, description):
        source = f"trained by its recipe on {len(data.train)} reviews: PyTorch embedding and LSTM, torch.jit.script"
        return Card(
            title=title, description=description, source=source, data=data.origin, licence="Apache-2.0, data CC0"
        )

    return [
        PythonModel(
            folder=FOLDER / "text_tokenizer",
            texts={"vocabulary.txt": "\n".join(data.vocabulary)},
            example_inputs={"text": texts(data)[:8]},
            answers={"tokens": data.test[:8]},
            card=card("Tokenizer", f"Text to the numbers of its first {tokenizer.LENGTH} words."),
        ),
        Trained(
            name="text_net",
            model=network,
            output_names=("probabilities", "best"),
            labels=data.labels,
            format="torchscript",
            evaluation=scored(data, {"tokens": data.test}),
            card=card("Sentiment network", "Word numbers to probabilities and the number of the likeliest class."),
        ),
        PythonModel(
            folder=FOLDER / "text_labels",
            texts={"labels.txt": "\n".join(data.labels)},
            example_inputs={"best": both},
            answers={"label": labeller.label(both, list(data.labels))},
            card=card("Label step", "The number of a class to its name."),
        ),
        Ensemble(
            name="text_classifier",
            steps=STEPS,
            framework=f"pytorch {torch.__version__.split('+')[0]}",
            answer=answer,
            answer_double=lambda inputs: answer(inputs, double),
            evaluation=scored(data, {"text": texts(data)}, (GATE,)),
            card=card(
                "Sentiment of a text",
                "Takes a text, gives the probability that it is negative and that it is positive, and the name of "
                "the likelier. Three models joined inside the server: tokenizer, network, label.",
            ),
        ),
    ]


RECIPE = Recipe(
    models=("text_classifier",),
    parts=tuple(model for model, _, _ in STEPS),
    build=build,
    evaluation_data=evaluation_data,
)

if __name__ == "__main__":
    main(RECIPE, __file__)
