"""The registry shows how every version stands; what is broken is a row like the others, and never stops the list."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil

import pytest

from modelport.errors import ModelNotFoundError, RepositoryError, VersionNotFoundError
from modelport.repository import config as configs
from modelport.repository import drops, placed, registry, switch
from modelport.repository.layout import state_folder
from modelport.repository.record import Record


@pytest.fixture
def net(release, repository):
    """Folder of `net`, versions 1 to 5: 3 serves, 2 is loaded and the way back, 1 is retired, 4 and 5 never served."""
    for _ in range(5):
        release()
    config, known = switch.read(repository, "net")
    configs.set_versions(config, [2, 3])
    known = dataclasses.replace(
        known, way_back=(2,), retired=(1,), aliases={"stable": 2, "best": 2}, tags={4: ("a", "b")}
    )
    switch.write(repository, "net", config, known)
    return repository / "net"


@pytest.fixture
def rows(repository):
    """`rows()`: version to row."""
    return lambda: {row.version: row for row in registry.rows(repository)}


def test_every_version_has_its_state(net, rows):
    found = rows()
    assert {v: row.state for v, row in found.items()} == {
        1: "retired", 2: "retired", 3: "serving", 4: "candidate", 5: "candidate",
    }  # fmt: skip
    assert [v for v, row in found.items() if row.loaded] == [2, 3]
    assert [v for v, row in found.items() if row.way_back] == [2]
    assert found[2].aliases == ("best", "stable") and found[4].tags == ("a", "b")
    assert found[5].size_bytes > 7 and found[5].format == "onnx" and found[5].created and not found[5].problem


def test_one_version_and_one_model_are_the_rows_of_the_list(net, repository, rows):
    assert registry.model_rows(repository, "net") == list(rows().values())
    assert registry.row(repository, "net", 2) == rows()[2]
    with pytest.raises(ModelNotFoundError):
        registry.model_rows(repository, "nothing")
    with pytest.raises(VersionNotFoundError):
        registry.row(repository, "net", 9)


def test_a_version_that_the_policy_names_without_a_folder_serves_nothing(net, repository, rows):
    config, known = switch.read(repository, "net")
    configs.set_versions(config, [2, 9])
    switch.write(repository, "net", config, known)
    assert rows()[2].state == "serving" and sum(row.loaded for row in rows().values()) == 1


def test_the_way_back_is_a_version_that_is_there(net, repository, rows):
    config, known = switch.read(repository, "net")
    switch.write(repository, "net", config, dataclasses.replace(known, way_back=(1, 2, 8, 3)))
    assert [v for v, row in rows().items() if row.way_back] == [2]


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES = {
    "its manifest is missing": (lambda folder: (folder / "manifest.json").unlink(), "modelport adopt net/4"),
    "its manifest is cut off": (lambda folder: os.truncate(folder / "manifest.json", 99), "no readable manifest"),
    "its manifest is a pipe": (
        lambda folder: ((folder / "manifest.json").unlink(), os.mkfifo(folder / "manifest.json")),
        "cannot be read",
    ),
    "its manifest is a link": (
        lambda folder: (folder / "manifest.json").rename(folder / "m") and (folder / "manifest.json").symlink_to("m"),
        "cannot be read",
    ),
    "its manifest is huge": (lambda folder: os.truncate(folder / "manifest.json", 1 << 30), "cannot be read"),
    "a file is missing": (lambda folder: (folder / "model.onnx").unlink(), "model.onnx is missing"),
    "a file is cut off": (lambda folder: cut(folder / "model.onnx"), "model.onnx has 6 bytes instead of 7"),
    "a file became a link": (
        lambda folder: (folder / "model.onnx").rename(folder / "m") and (folder / "model.onnx").symlink_to("m"),
        "no regular file",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_version_is_broken_and_says_why(net, rows, damage):
    act, words = DAMAGES[damage]
    act(net / "4")
    found = rows()
    assert found[4].state == "broken" and words in found[4].problem and "\n" not in found[4].problem
    assert found[4].tags == ("a", "b")
    assert found[3].state == "serving" and not found[3].problem, "the others are as they were"


def test_a_folder_that_was_renamed_or_copied_in_is_unchecked_and_says_what_it_was(net, rows):
    shutil.copytree(net / "2", net / "6")
    (net / "4").rename(net / "7")
    found = rows()
    assert found[6].state == found[7].state == "unchecked"
    assert "'modelport adopt net/7' checks it: the folder was net/4" in found[7].problem


def test_a_version_that_another_repository_published_is_unchecked_until_it_is_adopted_here(net, repository, rows):
    """Its manifest is right; nobody here has looked at it."""
    content = json.loads((net / "5" / "manifest.json").read_text())
    shutil.copytree(net / "5", net / "6")
    (net / "6" / "manifest.json").write_text(json.dumps({**content, "version": 6}))
    assert rows()[6].state == "unchecked" and "copied in" in rows()[6].problem
    placed.note(repository, "net", 6, net / "6")
    assert (rows()[6].state, rows()[6].problem) == ("candidate", "")


@pytest.mark.parametrize(("number", "state"), [(4, "unchecked"), (1, "broken"), (3, "broken")])
def test_a_version_whose_manifest_was_replaced_is_not_the_one_that_was_published(net, rows, number, state):
    path = net / str(number) / "manifest.json"
    path.write_text(path.read_text().replace("pytorch 2", "pytorch 3"))
    assert rows()[number].state == state and rows()[number].problem


def test_of_a_repository_from_another_machine_what_has_a_manifest_is_taken_as_it_is(net, release, repository, rows):
    shutil.rmtree(state_folder(repository))
    (net / "7").mkdir()
    before = {version: row.state for version, row in rows().items()}
    assert before == {1: "retired", 2: "retired", 3: "serving", 4: "candidate", 5: "candidate", 7: "unchecked"}
    assert release().version == 8
    assert {version: row.state for version, row in rows().items()} == {**before, 8: "candidate"}


def test_nothing_of_a_model_that_came_while_a_service_ran_is_taken_as_it_is(net, repository, rows):
    shutil.rmtree(state_folder(repository))
    placed.nothing_yet(repository, "net")
    assert {row.state for row in rows().values()} == {"unchecked"}
    placed.note(repository, "net", 4, net / "4")
    placed.nothing_yet(repository, "net")
    assert rows()[4].state == "candidate" and rows()[5].state == "unchecked"


def test_a_candidate_that_could_not_be_promoted_says_why_until_it_serves(net, repository, rows):
    drops.not_promoted(repository, "net", 5, "it did not load")
    assert (rows()[5].state, rows()[5].problem) == ("candidate", "it did not load")
    assert drops.refusal(repository, "net", 5) is None and [one[:2] for one in drops.everything(repository)] == [
        ("net", 5)
    ]
    config, known = switch.read(repository, "net")
    configs.set_versions(config, [2, 5])
    switch.write(repository, "net", config, known)
    assert (rows()[5].state, rows()[5].problem) == ("serving", "")


def test_a_model_file_beside_the_version_folders_is_told(repository):
    (repository / "new").mkdir(parents=True)
    (repository / "new" / "model.onnx").write_bytes(b"weights")
    (row,) = registry.rows(repository)
    assert row.state == "empty" and "move it into new/1/" in row.problem


def test_a_name_in_a_manifest_that_no_file_can_have_is_a_missing_file(net, rows):
    content = json.loads((net / "4" / "manifest.json").read_text())
    content["files"]["a\x00b"] = {"size_bytes": 1, "sha256": ""}
    (net / "4" / "manifest.json").write_text(json.dumps(content))
    assert rows()[4].state == "broken"


def test_a_serving_version_that_is_damaged_is_broken_and_loaded(net, rows):
    (net / "3" / "model.onnx").unlink()
    assert (rows()[3].state, rows()[3].loaded) == ("broken", True)
    assert rows()[2].state == "retired", "nothing else serves in its place"


def test_a_refused_drop_shows_why_until_it_changes(net, repository, rows):
    (net / "6").mkdir()
    (net / "6" / "model.onnx").write_bytes(b"other")
    assert "modelport adopt net/6" in rows()[6].problem
    drops.refuse(repository, "net", 6, "it has other tensors")
    assert (rows()[6].state, rows()[6].problem) == ("broken", "it has other tensors")
    assert rows()[4].state == "candidate", "of the same model, and not refused"
    (net / "6" / "model.onnx").write_bytes(b"mended")
    assert "modelport adopt net/6" in rows()[6].problem


def test_a_refused_drop_is_broken_with_a_manifest_too(net, repository, rows):
    drops.refuse(repository, "net", 5, "its answers are wrong")
    assert (rows()[5].state, rows()[5].problem) == ("broken", "its answers are wrong") and rows()[5].format == "onnx"


@pytest.mark.parametrize("damage", ["broken {", 'name: "net"\n# modelport: {"highest": "x', None])
def test_a_configuration_that_cannot_be_read_is_told_with_every_version(net, rows, damage):
    path = net / "config.pbtxt"
    path.unlink() if damage is None else path.write_text(damage)
    found = rows()
    assert len(found) == 5 and all("config.pbtxt" in row.problem and row.state != "broken" for row in found.values())


def test_a_record_that_cannot_be_read_does_not_hide_what_is_loaded(net, rows):
    path = net / "config.pbtxt"
    path.write_text(path.read_text().replace('"stable": 2', '"stable": "2"'))
    assert rows()[3].state == "serving" and [v for v, row in rows().items() if row.loaded] == [2, 3]
    assert rows()[2].aliases == () and rows()[2].problem


def test_a_model_without_a_version_is_a_row(net, repository):
    (repository / "zero").mkdir()
    last = registry.rows(repository)[-1]
    assert (last.model, last.version, last.state) == ("zero", None, "empty") and last.problem


def test_models_that_are_not_wanted_are_not_read(net, repository):
    assert registry.rows(repository, wanted=lambda name: name != "net") == []


def test_what_is_no_model_and_no_version_is_left_out(net, repository, rows):
    for name in ("a b", "net.trial", ".hidden"):
        (repository / name / "1").mkdir(parents=True)
    for name in ("0", "007", "1.tmp", "x"):
        (net / name).mkdir()
    (repository / "loop").symlink_to("loop")
    (repository / "file").touch()
    assert {row.model for row in registry.rows(repository)} == {"net"} and len(rows()) == 5


def test_a_model_that_went_while_the_list_was_made_is_told(net, repository):
    def wanted(name: str) -> bool:
        (repository / name).rename(repository.parent / "gone")
        return True

    (found,) = registry.rows(repository, wanted=wanted)
    assert found.state == "broken" and "net" in found.problem


def test_a_missing_repository_is_one_clear_error(tmp_path):
    with pytest.raises(RepositoryError):
        registry.rows(tmp_path / "nowhere")


def test_a_record_without_anything_is_that_of_a_new_model(release, repository):
    release()
    stands = registry.standing(repository, "net")
    assert (stands.serving, stands.way_back, stands.record, stands.problem) == (1, None, Record(), "")
