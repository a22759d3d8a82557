"""`modelport optimise --to distilled`: a served version teaches a smaller network."""

from __future__ import annotations

import pytest

from modelport.commands.build import build
from modelport.commands.optimise import optimise
from modelport.optimise.types import Options
from modelport.recipes.find import find_recipes
from modelport.repository.layout import state_folder, version_numbers
from modelport.repository.registry import row


class Interrupted(Exception):
    """Where a person pressed Ctrl-C."""


def test_a_served_version_teaches_a_student_and_what_it_said_is_kept_when_that_is_interrupted(root, tmp_path):
    recipe, repository = root / "tests" / "unit" / "optimise" / "tiny_recipe.py", tmp_path / "models"
    build(find_recipes(recipe.parent, [recipe.stem])[recipe], recipe, repository=repository)
    options = Options(recipe=recipe, student="narrow", max_drop=0.3)

    def run(report):
        return optimise(
            "halves", to="distilled", repository=repository, name="halves_small", options=options, report=report,
            rounds=1, seconds=0.01,
        )  # fmt: skip

    def interrupt(line):
        if line.startswith("training:"):
            raise Interrupted

    with pytest.raises(Interrupted):
        run(interrupt)
    assert version_numbers(repository, "halves") == [1] and not (repository / "halves_small").exists()
    said: list[str] = []
    done = run(said.append)
    assert "going on from where it was interrupted" in said and not any("teacher" in line for line in said)
    assert (done.model, done.version, done.facts["optimised_student"]) == ("halves_small", 1, "narrow")
    assert row(repository, "halves_small", 1).state == "candidate"
    assert done.measured.smaller > 1.5 and done.scores[0].after > 0.7
    assert not list((state_folder(repository) / "optimise").iterdir())
