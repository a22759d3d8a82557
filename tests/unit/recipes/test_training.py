"""The shared training loop."""

from __future__ import annotations

import pytest
import torch

from modelport.errors import DataError
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


def with_dropout() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Dropout(0.2), torch.nn.Linear(16, 1))


def test_what_was_interrupted_ends_where_it_would_have_ended(tmp_path):
    def run(model, report=lambda _: None, **where):
        x = torch.linspace(-1, 1, 100)[:, None]
        options = {"learning_rate": 0.1, "epochs": 8, "batch_size": 16, "threads": 1, "save_every_s": 0.0}
        fit(model, x, 3 * x - 1, loss=torch.nn.functional.mse_loss, report=report, **options, **where)
        return model[0].weight

    def interrupt(said):
        if said.startswith("training: 44 %"):
            raise KeyboardInterrupt

    whole, kept = run(with_dropout()), tmp_path / "training.pt"
    with pytest.raises(KeyboardInterrupt):
        run(with_dropout(), interrupt, checkpoint=kept)
    said = []
    assert torch.equal(run(with_dropout(), said.append, checkpoint=kept), whole)
    assert said[0].startswith("training: 5"), "it did not begin anew"
    said.clear()
    assert torch.equal(run(with_dropout(), said.append, checkpoint=kept), whole) and not said


def test_a_damaged_checkpoint_is_one_clear_error(tmp_path):
    (tmp_path / "training.pt").write_bytes(b"half of i")
    with pytest.raises(DataError, match="cannot go on from"):
        fit(
            with_dropout(),
            torch.zeros(4, 1),
            torch.zeros(4, 1),
            learning_rate=0.1,
            epochs=1,
            checkpoint=tmp_path / "training.pt",
        )
