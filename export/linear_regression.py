"""linear_regression: a straight line through noisy points, the smallest whole example."""

from __future__ import annotations

import numpy as np
import torch

from modelport.commands.build import main
from modelport.recipes.recipe import Evaluation, Options, Recipe, Trained
from modelport.recipes.training import fit
from modelport.repository.card import Card
from modelport.repository.gate import Gate


def points() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.uniform(-3, 3, size=(4300, 1)).astype(np.float32)
    return x, (2 * x + 1 + random.normal(0, 0.3, size=x.shape)).astype(np.float32)


def evaluation_data(options: Options) -> dict[str, Evaluation]:
    x, y = points()
    gate = Gate(metric="r2", min=0.98, max_drop=0.005)
    return {"linear_regression": Evaluation(inputs={"x": x[4000:]}, truth=y[4000:], metrics=("r2",), gates=(gate,))}


def build(options: Options) -> list[Trained]:
    x, y = points()
    rows = options.rows(4000)

    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1, bias=True)  # the bias is the line's intercept
    fit(
        model,
        torch.from_numpy(x[:rows]),
        torch.from_numpy(y[:rows]),
        loss=torch.nn.functional.mse_loss,
        optimizer=torch.optim.SGD,
        learning_rate=0.05,
        epochs=5,
        report=options.report,
    )
    card = Card(
        title="Linear regression",
        description="Takes a number `x`, gives `y`: the line that was fitted to noisy points of y = 2x + 1.",
        source="trained by its recipe: PyTorch, stochastic gradient descent",
        data=f"{rows} points to train, 300 to score: x even between -3 and 3, noise with a deviation of 0.3",
        licence="Apache-2.0",
        metrics={"slope": model.weight.item(), "intercept": model.bias.item()},
        notes="The noise alone keeps R2 below 1.",
    )
    return [
        Trained(
            name="linear_regression",
            model=model,
            output_names=("y",),
            evaluation=evaluation_data(options)["linear_regression"],
            card=card,
        )
    ]


RECIPE = Recipe(models=("linear_regression",), build=build, evaluation_data=evaluation_data)

if __name__ == "__main__":
    main(RECIPE, __file__)
