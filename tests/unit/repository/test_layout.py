"""Where things are: models and versions by their folders, the state folder beside the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.errors import InvalidNameError, ModelNotFoundError, RepositoryError, VersionNotFoundError
from modelport.repository.layout import (
    check_path,
    model_names,
    parse_reference,
    state_folder,
    version_folder,
    version_numbers,
)


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "models"
    for folder in ("b/1", "b/2", "b/10", "a", ".git/1", "_x/1", "b/003", "b/3.tmp", "b/-1", "b/99999999999", "c d/1"):
        (root / folder).mkdir(parents=True)
    (root / "file").touch()
    (root / "b" / "4").touch()
    return root


def test_models_are_folders_with_a_models_name(repository):
    assert model_names(repository) == ["a", "b"]


def test_versions_are_folders_with_a_versions_number(repository):
    """Others, such as Triton would read by their first digits, are none of ours."""
    assert version_numbers(repository, "b") == [1, 2, 10]
    assert version_numbers(repository, "a") == []


def test_the_highest_version_is_meant_when_none_is_named(repository):
    assert version_folder(repository, "b").name == "10"
    assert version_folder(repository, "b", 2) == repository / "b" / "2"


def test_a_missing_model_is_reported_with_those_that_are_there(repository):
    with pytest.raises(ModelNotFoundError) as caught:
        version_folder(repository, "nope")
    assert caught.value.model == "nope" and "a, b" in caught.value.why and caught.value.exit_code == 32


@pytest.mark.parametrize(
    ("model", "version", "why"), [("b", 3, "1, 2, 10"), ("a", None, "nothing"), ("a", 1, "nothing")]
)
def test_a_missing_version_is_reported_with_those_that_are_there(repository, model, version, why):
    with pytest.raises(VersionNotFoundError) as caught:
        version_folder(repository, model, version)
    assert why in caught.value.why and caught.value.model == model and caught.value.version == (version or 0)


def test_a_missing_repository_is_one_clear_error(tmp_path):
    for action in (lambda: model_names(tmp_path / "no"), lambda: version_numbers(tmp_path / "no", "a")):
        with pytest.raises(RepositoryError) as caught:
            action()
        assert "no" in caught.value.what and caught.value.fix


def test_the_state_folder_is_beside_the_repository(tmp_path, monkeypatch):
    """On the same file system also when the repository is reached by a link or a relative path."""
    assert state_folder(tmp_path / "models") == tmp_path / "models.state"
    (tmp_path / "models").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link").symlink_to(tmp_path / "models")
    assert state_folder(tmp_path / "elsewhere" / "link") == tmp_path / "models.state"
    monkeypatch.chdir(tmp_path / "models")
    assert state_folder(Path()) == state_folder(Path("../models")) == tmp_path / "models.state"


@pytest.mark.parametrize(
    ("text", "wanted"), [("net", ("net", None)), ("net/3", ("net", 3)), ("a.b-c/2147483647", ("a.b-c", 2147483647))]
)
def test_references_are_a_name_and_perhaps_a_version(text, wanted):
    assert parse_reference(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "/", "/1", "net/", "net/0", "net/01", "net/1/2", "net/latest", "../net", "net /1"]
)
def test_references_that_are_none(text):
    with pytest.raises(InvalidNameError):
        parse_reference(text)


@pytest.mark.parametrize("name", ["a b", "a;id", "a$(x)", "a'b", "mödels", "a\nb", "a&b", "a:b"])
def test_a_repository_path_that_a_shell_would_read_otherwise_is_refused(tmp_path, name):
    for path in (tmp_path / name, tmp_path / name / "models"):
        with pytest.raises(InvalidNameError) as caught:
            check_path(path)
        assert name in caught.value.name and caught.value.why and caught.value.fix
    check_path(tmp_path / "model_repository-1.2")
