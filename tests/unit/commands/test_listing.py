"""`list` and `show` read a repository from its files; one broken version does not hide the others."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from modelport.commands.listing import list_models, show
from modelport.errors import ManifestError, ModelNotFoundError, RepositoryError, UsageError, VersionNotFoundError
from modelport.repository import config as configs
from modelport.repository import drops, journal, switch
from modelport.repository.journal import Note
from modelport.repository.record import Record


def states(repository) -> dict[str, str]:
    return {f"{row.model}/{row.version}": row.state for row in list_models(repository)}


def test_every_version_is_listed_with_its_state(exported):
    assert states(exported) == {
        "mixing/1": "serving",
        "scores/1": "serving",
        "scores/2": "candidate",
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
    assert found["scores/2"].state == "candidate", "the others are still listed"


def test_a_configuration_that_cannot_be_read_serves_nothing(repository):
    (repository / "scores" / "config.pbtxt").write_text("broken {")
    found = [row for row in list_models(repository) if row.model == "scores"]
    assert [row.state for row in found] == ["candidate", "candidate"]
    assert all("scores/config.pbtxt cannot be read" in row.problem for row in found)


def test_a_version_is_shown_in_full(exported):
    found = show("scores", repository=exported)
    assert (found.row.version, found.row.state, found.versions, found.way_back) == (1, "serving", (1, 2), None)
    assert "# scores" in found.card and "x: FP32[3]" in found.card
    assert found.config == (exported / "scores" / "config.pbtxt").read_text()
    own = {"config.pbtxt", "scores_labels.txt"}
    assert set(found.manifest.files) == {"model.onnx", "card.md", "evidence.json", "golden.npz"} | own
    assert show("scores/2", repository=exported).row.state == "candidate"


def test_the_serving_version_is_shown_when_none_is_named(repository):
    path = repository / "scores" / "config.pbtxt"
    config = configs.read(path)
    configs.set_versions(config, [2])
    path.write_text(configs.text(config))
    assert show("scores", repository=repository).row.version == 2
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


def test_a_search_gives_the_versions_that_fit(repository):
    path = repository / "scores" / "config.pbtxt"
    record = Record(aliases={"stable": 1}, tags={2: ("new",)})
    switch.write(repository, "scores", configs.read(path), record)

    def found(**words):
        return [f"{row.model}/{row.version}" for row in list_models(repository, **words)]

    assert found(name="cores") == ["scores/1", "scores/2"]
    assert found(tag="new") == found(state="candidate") == ["scores/2"]
    assert found(alias="stable") == ["scores/1"]
    assert found(framework="pytorch", name="t*") == ["traced/1"]
    assert found(metric="accuracy>0") == []


def test_what_cannot_be_searched_for_is_said_before_anything_is_read(tmp_path):
    with pytest.raises(UsageError):
        list_models(tmp_path / "nowhere", state="running")


def test_a_killed_operation_is_repaired_before_the_list_is_made(repository):
    path = repository / "scores" / "config.pbtxt"
    before = path.read_text()
    note = Note(operation="promote", model="scores", version=2, before={"config.pbtxt": before})
    with pytest.raises(KeyboardInterrupt), journal.noted(repository, note):
        config = configs.read(path)
        configs.set_versions(config, [1, 2])
        path.write_text(configs.text(config))
        note_file = next((repository.parent / "model_repository.state" / "journal").glob("*.json"))
        kept = note_file.read_text()
        raise KeyboardInterrupt
    path.write_text(configs.text(config))
    note_file.write_text(kept)  # as a kill leaves it
    assert states(repository)["scores/1"] == "serving" and path.read_text() == before


def test_a_version_that_was_refused_is_shown_with_the_reason(repository):
    (repository / "scores" / "3").mkdir()
    drops.refuse(repository, "scores", 3, "it has other tensors")
    with pytest.raises(ManifestError) as caught:
        show("scores/3", repository=repository)
    assert caught.value.why == "it has other tensors"


LIGHT = """
import sys
from modelport.cli import main
code = main(["list", "--repository", sys.argv[1], *sys.argv[2:]])
print(code, *sorted({"numpy", "google.protobuf", "grpc", "torch"} & set(sys.modules)))
"""


@pytest.mark.parametrize("options", [[], ["--json"], ["s*", "--state", "candidate"]], ids=" ".join)
def test_the_list_waits_for_no_heavy_package(repository, options):
    """Loading numpy and protobuf takes longer than reading a thousand models."""
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, repository, *options], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0", done.stdout


def test_the_test_above_can_fail(repository):
    """A configuration of another form needs the parser."""
    path = repository / "scores" / "config.pbtxt"
    path.write_text(path.read_text() + "# the end\n")
    done = subprocess.run([sys.executable, "-c", LIGHT, repository], capture_output=True, text=True, check=True)
    assert "google.protobuf" in done.stdout.splitlines()[-1]
