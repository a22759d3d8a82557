"""`pruned` and `distilled`: what a recipe trains becomes smaller, is proved against itself, and can be interrupted."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch.nn import functional

from modelport.commands.build import build
from modelport.commands.ladder import optimise_within
from modelport.commands.optimise import optimise
from modelport.convert.format_onnx import OnnxRunner
from modelport.convert.source_files import read_weights, save_weights
from modelport.errors import ConversionError, RepositoryLockedError, UsageError, VerificationError
from modelport.optimise import distilled, pruned
from modelport.optimise.ladder import rungs
from modelport.optimise.types import Options
from modelport.recipes import stored, weights
from modelport.recipes.find import find_recipes
from modelport.repository.layout import state_folder, version_numbers
from modelport.repository.registry import row
from modelport.verify import evidence as evidences

RECIPE = Path(__file__).with_name("tiny_recipe.py")
QUICK = {"rounds": 1, "seconds": 0.01}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with what the tiny recipe makes, for reading."""
    root = tmp_path_factory.mktemp("trained") / "models"
    build(find_recipes(RECIPE.parent, [RECIPE.stem])[RECIPE], RECIPE, repository=root)
    return root


@pytest.fixture
def repository(built: Path, tmp_path: Path) -> Path:
    """A copy of it, with its state, that a test may change."""
    shutil.copytree(state_folder(built), tmp_path / "models.state")
    return Path(shutil.copytree(built, tmp_path / "models"))


def how(**options) -> Options:
    return Options(**{"recipe": RECIPE, "max_drop": 0.2, "epochs": 1, **options})


def progress(repository: Path) -> list[Path]:
    return sorted((state_folder(repository) / "optimise").glob("*/*"))


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Another process holds this lock."""
    program = (
        "import fcntl, sys; f = open(sys.argv[1], 'ab'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline()
        yield
        other.communicate(b"\n")


def test_a_pruned_version_has_a_smaller_graph_and_is_proved_against_the_pruned_network(repository):
    done = optimise("halves", to="pruned", repository=repository, options=how(), **QUICK)
    assert (done.version, row(repository, "halves", 2).state) == (2, "candidate")
    shapes = [
        {tuple(one.dims) for one in onnx.load(repository / "halves" / version / "model.onnx").graph.initializer}
        for version in ("1", "2")
    ]
    assert (8, 8, 3, 3) in shapes[0] and (4, 4, 3, 3) in shapes[1]
    assert 2 * int(done.facts["optimised_parameters"]) < int(done.facts["optimised_parameters_before"])
    assert (done.facts["optimised_from"], done.facts["optimised_ratio"]) == ("halves/1", "0.5")
    proof, golden = evidences.read(done.folder)
    assert proof.tolerances["logits"].kind == "noise_floor"
    before = evidences.read(repository / "halves" / "1")[1]
    assert np.abs(golden.outputs["logits"] - before.outputs["logits"]).max() > 10 * proof.tolerances["logits"].max_abs
    assert (
        "| source | pruned from halves/1, trained by its recipe on 256 samples |"
        in (done.folder / "card.md").read_text()
    )
    assert done.scores[0].metric == "accuracy" and done.scores[0].after > 0.8
    kept = [stored.load(repository, "halves", version) for version in (1, 2)]
    np.testing.assert_array_equal(kept[0].inputs["image"], kept[1].inputs["image"])
    mine = OnnxRunner(done.folder / "model.onnx", ["logits"]).run({"image": kept[1].inputs["image"]})
    np.testing.assert_allclose(kept[1].answers["logits"], mine["logits"], atol=1e-4)
    assert not progress(repository), "what is needed to go on is gone when it is published"


def test_what_lost_too_much_is_not_published_and_is_not_trained_again(repository, tmp_path):
    """The same command with more allowed goes on with what was trained; two processes do not train the same."""
    noise = tmp_path / "noise.npz"  # neither half is brighter: the two networks do not agree on all of them
    np.savez(noise, image=np.random.default_rng(3).random((200, 1, 8, 8), dtype=np.float32))
    (state_folder(repository) / "evaluation" / "halves-1.npz").unlink()
    said: list[str] = []

    def run(max_drop):
        options = how(ratio=0.8, max_drop=max_drop)
        optimise("halves", to="pruned", repository=repository, data=noise, options=options, report=said.append, **QUICK)

    with pytest.raises(VerificationError, match="would lose too much"):
        run(0.0)
    assert version_numbers(repository, "halves") == [1] and progress(repository)
    (lock,) = (path for path in progress(repository) if path.name == "lock")
    with held(lock), pytest.raises(RepositoryLockedError, match="halves/1 is being pruned"):
        run(1.0)
    said.clear()
    run(1.0)
    assert "going on from where it was interrupted" in said and not any(one.startswith("training") for one in said)


@pytest.mark.parametrize(
    ("budget", "states"),
    [
        ("accuracy drop <= 0.4", ("within budget", "kept")),
        ("agreement >= 1", ("refused", "not tried")),
    ],
)
def test_within_a_budget_several_shares_are_pruned_until_one_loses_too_much(repository, monkeypatch, budget, states):
    monkeypatch.setattr(rungs, "RATIOS", (0.25, 0.75))
    done = optimise_within(
        "halves",
        budget=budget,
        objective="size",
        repository=repository,
        kinds=("pruned",),
        options=Options(recipe=RECIPE, epochs=1),
        **QUICK,
    )
    assert tuple(one.state for one in done.rungs) == states
    if done.published is None:
        assert "pruned, 0.25 loses too much already" in done.rungs[-1].why
        assert version_numbers(repository, "halves") == [1]
        return
    assert evidences.read(done.folder)[0].tolerances["logits"].kind == "noise_floor"
    kept = stored.load(repository, "halves", 2)
    mine = OnnxRunner(done.folder / "model.onnx", ["logits"]).run({"image": kept.inputs["image"]})
    np.testing.assert_allclose(kept.answers["logits"], mine["logits"], atol=1e-4)
    assert not progress(repository), "neither of the ladder nor of the trainings"


def test_the_weights_have_to_be_those_of_the_version(repository):
    path = weights.path_of(repository, "halves", 1)
    state = read_weights(path)
    network = find_recipes(RECIPE.parent, [RECIPE.stem])[RECIPE].training(None)["halves"].network()
    network.load_state_dict({**state, "last.bias": state["last.bias"] + 0.01})
    save_weights(network, path)
    with pytest.raises(VerificationError, match="not what halves/1 was built from"):
        optimise("halves", to="pruned", repository=repository, options=how(), **QUICK)
    more = {"options": Options(recipe=RECIPE), "kinds": ("pruned",), "repository": repository, **QUICK}
    done = optimise_within("halves", budget="accuracy drop <= 1", **more)
    assert {one.state for one in done.rungs} == {"not tried"}, "they may be there another time"
    path.unlink()
    with pytest.raises(UsageError, match="was built with are not there"):
        optimise("halves", to="pruned", repository=repository, options=how(), **QUICK)
    assert version_numbers(repository, "halves") == [1]


@pytest.mark.parametrize(
    ("to", "options", "words"),
    [
        ("pruned", {"ratio": 1.0}, "ratio 1.0 is not above 0 and below 1"),
        ("pruned", {"recipe": None}, "is not known how halves/1 was trained"),
        ("distilled", {"student": "wide"}, "no student 'wide'"),
        ("distilled", {"teaching": 1.5, "temperature": 0.0, "student": "narrow"}, "teaching 1.5 .*; temperature 0.0"),
    ],
)
def test_wrong_options_are_one_clear_error(repository, to, options, words):
    with pytest.raises(UsageError, match=words):
        optimise("halves", to=to, repository=repository, options=how(**options), **QUICK)
    assert version_numbers(repository, "halves") == [1]


def test_without_the_teacher_a_student_sees_the_labelled_samples_as_often_as_it_takes_for_as_many_steps(repository):
    options = how(student="half_labelled", teaching=0.0, max_drop=1.0)
    done = optimise("halves", to="distilled", repository=repository, options=options, **QUICK)
    known = {name: done.facts[f"optimised_{name}"] for name in ("training_samples", "labelled_samples", "epochs")}
    assert known == {"training_samples": "128", "labelled_samples": "128", "epochs": "2"}


def test_a_network_with_nothing_to_take_out_is_refused():
    with pytest.raises(ConversionError, match="no layer has channels to spare"):
        pruned.prune(torch.nn.Sequential(torch.nn.Linear(4, 2)), torch.zeros(1, 4), 0.5, name="line")


def test_a_student_of_the_teacher_alone_learns_its_distribution_and_of_the_labels_alone_the_classes():
    logits, labels = torch.randn(5, 3), torch.tensor([0.0, 1.0, 2.0, 1.0, 0.0])
    same = torch.cat([labels[:, None], logits + 7], dim=1)
    assert distilled.soft_loss(1.0, 4.0)(logits, same).item() == pytest.approx(0, abs=1e-5)
    assert distilled.soft_loss(1.0, 4.0)(logits, torch.cat([labels[:, None], -logits], dim=1)) > 0.1
    plain = functional.cross_entropy(logits, labels.long())
    assert torch.allclose(distilled.soft_loss(0.0, 4.0)(logits, same), plain)
