"""`list` and `show` read a repository from its files; one broken version does not hide the others."""

from __future__ import annotations

import json
import shutil

import pytest

from modelport.commands.listing import list_models, serving_versions, show
from modelport.errors import ManifestError, ModelNotFoundError, RepositoryError, VersionNotFoundError
from modelport.repository import config as configs


def states(repository) -> dict[str, str]:
    return {f"{row.model}/{row.version}": row.state for row in list_models(repository)}


def test_every_version_is_listed_with_its_state(exported):
    assert states(exported) == {
        "mixing/1": "serving",
        "scores/1": "published",
        "scores/2": "serving",
        "traced/1": "serving",
    }
    row = list_models(exported)[2]
    assert (row.format, row.problem) == ("onnx", "") and row.framework.startswith("pytorch") and row.size_bytes > 1000


def test_a_model_without_a_version_is_listed(repository):
    (repository / "empty").mkdir()
    row = list_models(repository)[0]
    assert (row.model, row.version, row.state) == ("empty", None, "empty") and row.problem


def test_an_empty_repository_lists_nothing(tmp_path):
    assert list_models(tmp_path) == []


@pytest.mark.parametrize("damage", ["missing", "cut off", "odd type", "odd name"])
def test_a_broken_version_is_listed_as_broken(repository, damage):
    path = repository / "scores" / "1" / "manifest.json"
    content = json.loads(path.read_text())
    if damage == "missing":
        path.unlink()
    elif damage == "cut off":
        path.write_text(path.read_text()[:100])
    else:
        content["spec"]["inputs"][0].update({"dtype": "FP31"} if damage == "odd type" else {"name": "a b"})
        path.write_text(json.dumps(content))
    found = {f"{row.model}/{row.version}": row for row in list_models(repository)}
    assert found["scores/1"].state == "broken" and found["scores/1"].problem
    assert found["scores/2"].state == "serving", "the others are still listed"


def test_a_configuration_that_cannot_be_read_serves_nothing(repository):
    (repository / "scores" / "config.pbtxt").write_text("broken {")
    assert states(repository)["scores/2"] == "published"
    assert serving_versions(repository, "scores") == ()


def test_a_version_is_shown_in_full(exported):
    found = show("scores", repository=exported)
    assert (found.row.version, found.row.state, found.versions) == (2, "serving", (1, 2))
    assert "# scores" in found.card and "x: FP32[3]" in found.card
    assert found.config == (exported / "scores" / "config.pbtxt").read_text()
    assert set(found.manifest.files) == {"model.onnx", "card.md", "evidence.json", "golden.npz"}
    assert show("scores/1", repository=exported).row.state == "published"


def test_the_serving_version_is_shown_when_none_is_named(repository):
    path = repository / "scores" / "config.pbtxt"
    config = configs.read(path)
    configs.set_versions(config, [1])
    path.write_text(configs.text(config))
    assert show("scores", repository=repository).row.version == 1
    configs.set_versions(config, [9])
    path.write_text(configs.text(config))
    assert show("scores", repository=repository).row.version == 2, "the highest there is, when that one is missing"


def test_a_card_or_configuration_that_is_missing_or_no_text_does_not_matter(repository):
    folder = repository / "traced"
    (folder / "1" / "card.md").write_bytes(b"\xff ok")
    (folder / "config.pbtxt").unlink()
    found = show("traced", repository=repository)
    assert found.card.endswith(" ok") and found.config == ""


@pytest.mark.parametrize(("reference", "error"), [("nope", ModelNotFoundError), ("scores/9", VersionNotFoundError)])
def test_what_is_not_there_is_one_clear_error(exported, reference, error):
    with pytest.raises(error) as caught:
        show(reference, repository=exported)
    assert caught.value.why and caught.value.fix


def test_a_version_without_a_manifest_is_one_clear_error(repository):
    shutil.rmtree(repository / "traced" / "1")
    (repository / "traced" / "1").mkdir()
    with pytest.raises(ManifestError, match="traced/1"):
        show("traced", repository=repository)


def test_a_missing_repository_is_one_clear_error(tmp_path):
    with pytest.raises(RepositoryError):
        list_models(tmp_path / "nowhere")
