"""Recipes are the scripts of a folder that define `RECIPE`."""

from __future__ import annotations

import sys

import pytest

from modelport.errors import UsageError
from modelport.recipes.find import find_recipes

SCRIPT = """
from helpers_of_this_test.names import NAME
from modelport.recipes.recipe import Recipe

RECIPE = Recipe(models=(NAME,), build=lambda options: [])
"""


@pytest.fixture
def folder(scripts):
    (scripts / "helpers_of_this_test").mkdir()
    (scripts / "helpers_of_this_test" / "names.py").write_text('NAME = "found"\n')
    (scripts / "b_recipe.py").write_text(SCRIPT)
    (scripts / "a_tool.py").write_text("print('no recipe')\n")
    return scripts


def test_scripts_without_a_recipe_are_left_out(folder):
    found = find_recipes(folder)
    assert {path.name: recipe.models for path, recipe in found.items()} == {"b_recipe.py": ("found",)}


def test_the_import_path_is_as_before(folder):
    before = list(sys.path)
    find_recipes(folder)
    assert sys.path == before


def test_only_what_was_asked_for_is_imported(folder):
    (folder / "broken.py").write_text("raise RuntimeError('imported')\n")
    assert len(find_recipes(folder, ["b_recipe"])) == 1


def test_a_recipe_that_is_not_there_is_named(folder):
    with pytest.raises(UsageError, match="c_recipe"):
        find_recipes(folder, ["b_recipe", "c_recipe"])


def test_a_folder_without_scripts_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no recipe in"):
        find_recipes(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["import a_package_that_is_not_there", "def ("])
def test_a_recipe_that_cannot_be_imported_is_named_with_the_reason(folder, text):
    (folder / "broken.py").write_text(f"{text}\n")
    with pytest.raises(UsageError, match=r"broken\.py cannot be imported") as raised:
        find_recipes(folder, ["broken"])
    assert "Error: " in raised.value.why
