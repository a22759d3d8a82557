"""text_classifier: text in, label out. A tokenizer, a TorchScript network and a label step joined by Triton."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from modelport.commands.build import main
from networks.reviews import load
from networks.text import LastStepLSTM, Probabilities
from triton_models.text_labels import model as labeller
from triton_models.text_tokenizer import model as tokenizer

from modelport.recipes.recipe import Ensemble, Evaluation, Options, Product, PythonModel, Recipe, Trained
from modelport.recipes.training import fit
from modelport.repository.card import Card
from modelport.repository.config import EnsembleStep
from modelport.spec import ModelSpec, TensorSpec, dtype_of

FOLDER = Path(__file__).parent / "triton_models"
TEXT = TensorSpec(name="text", dtype=dtype_of("BYTES"), dims=(1,))
TOKENS = TensorSpec(name="tokens", dtype=dtype_of("INT64"), dims=(tokenizer.LENGTH,))
PROBABILITIES = TensorSpec(name="probabilities", dtype=dtype_of("FP32"), dims=(2,))
LABEL = TensorSpec(name="label", dtype=dtype_of("BYTES"), dims=(1,))


def build(options: Options) -> list[Product]:
    data = load(options)
    torch.manual_seed(0)
    network = LastStepLSTM(words=data.numbers, width=32)
    fit(
        network,
        torch.from_numpy(data.train),
        torch.from_numpy(data.train_labels),
        learning_rate=1e-2,
        epochs=options.epochs(5),
        report=options.report,
    )
    script = torch.jit.script(Probabilities(network).eval().requires_grad_(False))
    numbers = tokenizer.read_vocabulary(data.vocabulary)

    def answer(inputs, net=script):
        tokens = torch.from_numpy(tokenizer.tokens(inputs["text"].ravel().tolist(), numbers))
        with torch.inference_mode():
            probabilities = net(tokens).float().numpy()
        return {"probabilities": probabilities, "label": labeller.label(probabilities, list(data.labels))}

    double = copy.deepcopy(script).double()
    texts = np.array(data.test_texts, dtype=object)[:, None]
    few = answer({"text": texts[:64]})
    said = {
        "source": f"trained by its recipe on {len(data.train)} reviews: PyTorch embedding and LSTM, torch.jit.script",
        "data": data.origin,
        "licence": "weights Apache-2.0, data CC0",
    }
    return [
        PythonModel(
            spec=ModelSpec(name="text_tokenizer", inputs=(TEXT,), outputs=(TOKENS,), max_batch_size=32),
            files=(FOLDER / "text_tokenizer" / "model.py",),
            texts={"vocabulary.txt": "".join(f"{word}\n" for word in data.vocabulary)},
            example_inputs={"text": texts[:8]},
            answers={"tokens": data.test[:8]},
            card=Card(title="Tokenizer", description="Text to the numbers of its first 80 words.", **said),
        ),
        Trained(
            name="text_net",
            model=script,
            example_inputs={"tokens": data.test[:64]},
            output_names=("probabilities",),
            labels=data.labels,
            format="torchscript",
            evaluation=Evaluation(inputs={"tokens": data.test}, truth=data.test_labels, metrics=("accuracy",)),
            card=Card(title="Sentiment network", description="Word numbers to probabilities.", **said),
        ),
        PythonModel(
            spec=ModelSpec(name="text_labels", inputs=(PROBABILITIES,), outputs=(LABEL,), max_batch_size=32),
            files=(FOLDER / "text_labels" / "model.py",),
            texts={"labels.txt": "".join(f"{label}\n" for label in data.labels)},
            example_inputs={"probabilities": few["probabilities"][:8]},
            answers={"label": few["label"][:8]},
            card=Card(title="Label step", description="Probabilities to the likeliest class.", **said),
        ),
        Ensemble(
            spec=ModelSpec(name="text_classifier", inputs=(TEXT,), outputs=(PROBABILITIES, LABEL), max_batch_size=32),
            steps=(
                EnsembleStep(model="text_tokenizer", inputs={"text": "text"}, outputs={"tokens": "tokens"}),
                EnsembleStep(model="text_net", inputs={"tokens": "tokens"}, outputs={"probabilities": "probabilities"}),
                EnsembleStep(
                    model="text_labels", inputs={"probabilities": "probabilities"}, outputs={"label": "label"}
                ),
            ),
            answer=answer,
            answer_double=lambda inputs: answer(inputs, double),
            evaluation=Evaluation(inputs={"text": texts}, truth=data.test_labels, metrics=("accuracy",)),
            card=Card(
                title="Sentiment of a text",
                description="Takes a text, gives the probability that it is negative and that it is positive, and "
                "the likelier one's name. Three models joined inside the server.",
                **said,
            ),
        ),
    ]


RECIPE = Recipe(models=("text_classifier",), parts=("text_tokenizer", "text_net", "text_labels"), build=build)

if __name__ == "__main__":
    main(RECIPE, __file__)
