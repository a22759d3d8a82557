"""The source's own answers, and the samples that a tolerance must be derived from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modelport.commands.ask_source import Asked, ask_source
from modelport.recipes.recipe import Evaluation, Trained
from modelport.repository.card import Card
from modelport.verify.prove import EXAMPLE_ROWS

CARD = Card(title="t", description="d")


@pytest.fixture
def product():
    """A model whose answers lose more in float32 the larger the input, and 200 samples in no order of size."""
    x = np.random.default_rng(0).permutation(np.linspace(0.1, 40, 200)).astype(np.float32)[:, None]

    class Model(torch.nn.Module):
        def forward(self, x):
            return (torch.exp(x) - 1) / torch.exp(x) * x, (x > 20).long()

    scored = Evaluation(inputs={"x": x}, truth=x, metrics=("r2",))
    return Trained(name="m", model=Model(), output_names=("y", "big"), evaluation=scored, card=CARD)


def test_every_sample_is_answered_in_order_and_in_both_precisions(product):
    asked = ask_source(product)
    x = product.evaluation.inputs["x"]
    assert asked.framework.startswith("pytorch ")
    assert asked.answers["y"].dtype == np.float32 and asked.double["y"].dtype == np.float64
    assert np.allclose(asked.answers["y"], x * (1 - np.exp(-x)), atol=1e-4)
    assert (asked.answers["big"] == (x > 20)).all()


def test_the_noisiest_samples_are_the_ones_on_which_the_precisions_differ_most(product):
    asked = ask_source(product)
    noise = np.abs(asked.answers["y"] - asked.double["y"])[:, 0]
    chosen = asked.noisiest()
    assert len(set(chosen)) == EXAMPLE_ROWS < len(noise)
    assert noise[chosen].min() >= np.delete(noise, chosen).max() > 0


def test_without_float64_the_first_samples_are_taken():
    answers = {"y": np.zeros((100, 2), np.float32), "label": np.full((100, 1), "a", dtype=object)}
    assert Asked(framework="f", answers=answers, double=None).noisiest() == list(range(EXAMPLE_ROWS))


def test_of_few_samples_all_are_taken():
    answers = {"y": np.arange(6, dtype=np.float32)[:, None]}
    noise = np.array([[0], [1], [0], [3], [0], [2]])
    double = {"y": answers["y"].astype(np.float64) + noise}
    assert Asked(framework="f", answers=answers, double=double).noisiest() == [3, 5, 1, 0, 2, 4]
