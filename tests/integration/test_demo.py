"""The demo on a recipe of its own: build, serve, compare; and what it does when something is not as it was."""

from __future__ import annotations

import json

import numpy as np
import pytest

from modelport.commands.demo import demo, require_ok
from modelport.errors import UsageError, VerificationError
from modelport.recipes import stored
from modelport.recipes.recipe import Options

RECIPE = """
import numpy as np
import torch
from pathlib import Path
from parts.double import model as step

from modelport.recipes.recipe import Ensemble, Evaluation, PythonModel, Recipe, Trained
from modelport.repository.card import Card

CARD = Card(title="t", description="d", source="s", data="d", licence="l")


class Sum(torch.nn.Module):
    def forward(self, x):
        return (x * torch.ones_like(x).cumsum(dim=1)).sum(dim=1, keepdim=True)


def build(options):
    options.report("building")
    x = np.random.default_rng(0).normal(size=(70, 5)).astype(np.float32)
    x[::3, 2:] = 0
    truth = x @ np.arange(1, 6, dtype=np.float32)[:, None]
    scored = Evaluation(inputs={"x": x}, truth=truth, metrics=("r2",), padded=True)
    whole = Evaluation(inputs={"half": x}, truth=2 * truth, metrics=("r2",))
    net = Sum()

    def answer(inputs, dtype=torch.float32):
        return {"y": net(torch.from_numpy(step.double(inputs["half"])).to(dtype)).numpy()}

    return [
        PythonModel(
            folder=Path(__file__).parent / "parts" / "double",
            texts={"factor.txt": "2"},
            example_inputs={"half": x[:4]},
            answers={"x": 2 * x[:4]},
            card=CARD,
        ),
        Trained(name="sum", model=net, output_names=("y",), evaluation=scored, card=CARD, dynamic_axes={"x": {1: "n"}}),
        Ensemble(
            name="chain",
            steps=(("double", ["half"], ["x"]), ("sum", ["x"], ["y"])),
            framework="pytorch",
            answer=answer,
            answer_double=lambda inputs: answer(inputs, torch.float64),
            evaluation=whole,
            card=CARD,
        ),
    ]


RECIPE = Recipe(models=("sum", "chain"), parts=("double",), build=build)
"""
STEP = """
from pathlib import Path


def double(x):
    return 2 * x


class TritonPythonModel:
    def initialize(self, args):
        self.factor = int(Path(__file__).with_name("factor.txt").read_text())

    def execute(self, requests):
        import triton_python_backend_utils as pb

        answers = []
        for request in requests:
            x = pb.get_input_tensor_by_name(request, "half").as_numpy()
            answers.append(pb.InferenceResponse([pb.Tensor("x", x * self.factor)]))
        return answers
"""


@pytest.fixture
def place(tmp_path):
    """A folder with one recipe, and beside it room for a repository."""
    (tmp_path / "recipes/parts/double").mkdir(parents=True)
    (tmp_path / "recipes/both.py").write_text(RECIPE)
    (tmp_path / "recipes/parts/double/model.py").write_text(STEP)
    return tmp_path


def run(place, **more):
    """The demo's rows, and what it said about each model."""
    said = []
    rows = demo(
        recipes=place / "recipes",
        repository=place / "models",
        report_file=place / "out" / "demo.json",
        line=said.append,
        **more,
    )
    return rows, said


def test_the_demo_from_nothing_again_and_after_changes(place):
    """Builds what is missing, uses what is current, rebuilds what changed, and reports answers that are wrong."""
    rows, said = run(place)
    assert [(row.model, row.protocol) for row in rows] == [
        ("sum", "HTTP"),
        ("sum", "gRPC"),
        ("chain", "HTTP"),
        ("chain", "gRPC"),
    ]
    assert all(row.ok and row.samples == 70 and row.version == 1 and row.p50_latency_ms > 0 for row in rows)
    assert all(row.max_abs_error <= row.tolerance for row in rows)
    assert [row.format for row in rows] == ["onnx", "onnx", "ensemble", "ensemble"]
    assert all(row.served_value == pytest.approx(row.source_value) == pytest.approx(1.0) for row in rows)
    assert len(said) == 2 and all("built in" in line for line in said)
    require_ok(rows)
    wanted = {"model", "format", "protocol", "samples", "metric", "source_value", "served_value"}
    wanted |= {"max_abs_error", "tolerance", "ok"}
    written = json.loads((place / "out" / "demo.json").read_text())
    assert len(written) == 4 and all(wanted <= set(row) for row in written)

    steps = []
    rows, said = run(place, options=Options(report=steps.append))
    assert all("up to date" in line for line in said) and all(row.version == 1 for row in rows)
    assert not any("building" in step for step in steps)

    # A source that answers otherwise than the served model: the negative control.
    kept = stored.load(place / "models", "sum", 1)
    answers = {"y": kept.answers["y"] + np.float32(0.01)}
    changed = stored.StoredEvaluation(**{**vars(kept), "answers": answers})
    stored.save(place / "models", "sum", 1, changed)
    rows, _ = run(place)
    assert [row.ok for row in rows] == [False, False, True, True]
    assert rows[0].max_abs_error == pytest.approx(0.01, rel=0.01)
    with pytest.raises(VerificationError, match="sum over HTTP, sum over gRPC"):
        require_ok(rows)
    assert not json.loads((place / "out" / "demo.json").read_text())[0]["ok"]

    with (place / "recipes/parts/double/model.py").open("a") as file:
        file.write("# changed\n")
    rows, said = run(place)
    assert all(row.version == 2 and row.ok for row in rows) and all("version 2 built in" in line for line in said)


def test_a_recipe_that_is_not_there_is_refused_before_anything_starts(place):
    with pytest.raises(UsageError, match="nothing_of_the_kind"):
        run(place, only=["nothing_of_the_kind"])
    assert not (place / "models").exists()
