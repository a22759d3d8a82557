"""The shared training loop."""

from __future__ import annotations

import torch

from modelport.recipes.training import fit


def trained(report=lambda _: None):
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 200)[:, None]
    model = torch.nn.Linear(1, 1)
    fit(model, x, 3 * x - 1, loss=torch.nn.functional.mse_loss, learning_rate=0.1, epochs=60, report=report)
    return model


def test_it_finds_a_line_and_leaves_the_model_ready_to_answer():
    model = trained()
    assert abs(model.weight.item() - 3) < 0.05 and abs(model.bias.item() + 1) < 0.05
    assert not model.training


def test_the_same_seed_gives_the_same_weights():
    assert torch.equal(trained().weight, trained().weight)


def test_progress_is_reported_up_to_the_end():
    said = []
    trained(said.append)
    assert 9 <= len(said) <= 12 and said[-1].startswith("training: 100 %")
