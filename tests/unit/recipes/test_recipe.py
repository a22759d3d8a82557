"""The digest of a recipe changes with all that decides what it builds, and with nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from modelport.errors import UsageError
from modelport.recipes.recipe import Evaluation, Options, recipe_digest

RECIPE = """
import numpy
from networks.small import Net
from triton_steps.first import model

FOLDER = "assets"
"""


@pytest.fixture
def recipe(scripts):
    for name, text in {
        "mine.py": RECIPE,
        "other.py": "x = 1\n",
        "networks/small.py": "import networks.layers\n",
        "networks/layers.py": "y = 1\n",
        "networks/unused.py": "z = 1\n",
        "triton_steps/first/model.py": "a = 1\n",
        "assets/deep/words.txt": "one\n",
    }.items():
        (scripts / name).parent.mkdir(parents=True, exist_ok=True)
        (scripts / name).write_text(text)
    return scripts / "mine.py"


@pytest.mark.parametrize(
    "name",
    ["mine.py", "networks/small.py", "networks/layers.py", "triton_steps/first/model.py", "assets/deep/words.txt"],
)
def test_a_change_of_what_the_recipe_uses_changes_the_digest(recipe, name):
    before = recipe_digest(recipe)
    with (recipe.parent / name).open("a") as file:
        file.write("\n# changed\n")
    assert recipe_digest(recipe) != before


@pytest.mark.parametrize("name", ["other.py", "networks/unused.py", "networks/__pycache__/small.pyc"])
def test_a_change_of_anything_else_does_not(recipe, name):
    before = recipe_digest(recipe)
    (recipe.parent / name).parent.mkdir(exist_ok=True)
    (recipe.parent / name).write_text("changed = 1\n")
    assert recipe_digest(recipe) == before


def test_a_renamed_file_changes_the_digest(recipe):
    before = recipe_digest(recipe)
    (recipe.parent / "assets/deep/words.txt").rename(recipe.parent / "assets/deep/terms.txt")
    assert recipe_digest(recipe) != before


def test_the_place_of_the_folder_does_not_matter(recipe, monkeypatch):
    before = recipe_digest(recipe)
    monkeypatch.chdir(recipe.parent)
    assert recipe_digest(type(recipe)(recipe.name)) == before
    moved = recipe.parent.rename(recipe.parent.with_name("elsewhere"))
    assert recipe_digest(moved / recipe.name) == before


def test_options_are_part_of_it(recipe, tmp_path):
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"1")
    options = [Options(), Options(quick=True), Options(data="package"), Options(weights=weights)]
    digests = [recipe_digest(recipe, one) for one in options]
    weights.write_bytes(b"2")
    digests.append(recipe_digest(recipe, options[-1]))
    assert len(set(digests)) == len(digests)
    assert recipe_digest(recipe, Options(report=print, scratch=tmp_path)) == digests[0]


def test_weights_that_are_not_there_are_refused(recipe, tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        recipe_digest(recipe, Options(weights=tmp_path / "none.pt"))


def test_an_unknown_place_for_data_is_refused():
    with pytest.raises(UsageError, match="the moon"):
        Options(data="the moon")


def test_quick_options_score_little():
    whole = Evaluation(inputs={"x": np.zeros((500, 2))}, truth=np.arange(500), metrics=("accuracy",))
    assert Options().scored(whole) is whole
    little = Options(quick=True).scored(whole)
    assert (little.inputs["x"].shape, little.truth.tolist()) == ((200, 2), list(range(200)))


def test_quick_options_train_on_little():
    assert (Options(quick=True).rows(10_000), Options(quick=True).epochs(9)) == (256, 1)
    assert (Options().rows(10_000), Options().epochs(9)) == (10_000, 9)
