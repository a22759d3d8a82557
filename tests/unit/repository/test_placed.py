"""What modelport brought into place is told from what was copied in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from modelport.repository import placed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Version 3 of `m`, with a manifest."""
    made = tmp_path / "model_repository" / "m" / "3"
    made.mkdir(parents=True)
    (made / "manifest.json").write_text("{}")
    return made


def test_a_version_that_was_noted_is_ours_until_its_manifest_changes(folder):
    repository = folder.parents[1]
    assert not placed.ours(repository, "m", 3) and placed.known(repository, "m") is None
    placed.note(repository, "m", 3, folder)
    assert placed.ours(repository, "m", 3) and set(placed.known(repository, "m")) == {3}
    (folder / "manifest.json").write_text("{ }")
    assert not placed.ours(repository, "m", 3)


def test_a_copy_under_another_number_is_not_ours(folder):
    repository = folder.parents[1]
    placed.note(repository, "m", 3, folder)
    shutil.copytree(folder, folder.with_name("4"))
    assert not placed.ours(repository, "m", 4)
    placed.note(repository, "m", 4, folder.with_name("4"))
    assert placed.ours(repository, "m", 3) and placed.ours(repository, "m", 4)


def test_a_version_that_is_gone_or_has_no_manifest_is_not_ours(folder):
    repository = folder.parents[1]
    placed.note(repository, "m", 3, folder)
    shutil.rmtree(folder)
    assert not placed.ours(repository, "m", 3)
    folder.mkdir()
    placed.note(repository, "m", 5, folder)
    assert not placed.ours(repository, "m", 5)


def test_a_damaged_note_is_no_note(folder):
    repository = folder.parents[1]
    placed.note(repository, "m", 3, folder)
    (file,) = (tmp for tmp in repository.parent.rglob("m.json"))
    for damage in ("", "[1]", '{"x": 1}'):
        file.write_text(damage)
        assert placed.known(repository, "m") is None
