"""What changed between two versions is found in what was stored with them, and only that is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from modelport.commands.diff import diff
from modelport.commands.export import export
from modelport.errors import ManifestError, ModelNotFoundError, VersionNotFoundError
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository.card import Card


@pytest.fixture(scope="module")
def two(tmp_path_factory, net, x) -> Path:
    """`scores`, of which version 2 has other weights, more metrics, two instances and a batch of 16."""
    repository = tmp_path_factory.mktemp("two") / "model_repository"
    common: dict[str, Any] = {"name": "scores", "repository": repository, "example_inputs": {"x": x}}

    def card(**metrics: float) -> Card:
        return Card(title="scores", description="", metrics=metrics)

    export(net(), output_names=["scores"], card=card(accuracy=0.5, loss=1.0), **common)
    other = net()
    torch.nn.init.constant_(other.linear.weight, 0.25)
    options: dict[str, Any] = {"instance_count": 2, "max_batch_size": 16}
    export(other, output_names=["scores"], card=card(accuracy=0.75, f1=0.5), **common, **options)
    return repository


@pytest.fixture
def changes(two):
    """Part and name -> (before, after, difference), from version 1 to 2."""
    found = diff("scores", 1, 2, repository=two)
    assert (found.model, found.before, found.after) == ("scores", 1, 2)
    return {(c.part, c.what): (c.before, c.after, c.difference) for c in found.changes}


def test_metrics_are_compared_with_their_difference(changes):
    assert changes["metrics", "accuracy"] == (0.5, 0.75, 0.25)
    assert changes["metrics", "loss"] == (1.0, None, None)
    assert changes["metrics", "f1"] == (None, 0.5, None)


def test_the_configuration_each_was_made_with_is_compared(changes):
    assert changes["configuration", "instance_group[0].count"] == (1, 2, 1)
    assert changes["version", "largest batch"] == (32, 16, -16)
    assert not [what for part, what in changes if part == "configuration" and what.startswith(("name", "version"))]


def test_files_are_compared_by_size_and_content(changes, two):
    size = (two / "scores" / "1" / "model.onnx").stat().st_size
    assert changes["files", "model.onnx"] == (size, size, 0), "the same size, other content"
    assert ("files", "golden.npz") in changes and ("files", "scores_labels.txt") not in changes


def test_what_was_proved_is_compared(changes):
    before, after, difference = changes["tolerance", "scores: allowed error"]
    assert before != after and difference == after - before


def test_what_is_the_same_is_not_told(changes):
    parts = {part for part, _ in changes}
    assert "tensors" not in parts and "made with" not in parts
    assert ("version", "format") not in changes


def test_a_version_has_no_difference_to_itself(two):
    assert diff("scores", 2, 2, repository=two).changes == ()


def test_the_other_way_round_the_signs_change(two):
    (metric,) = (c for c in diff("scores", 2, 1, repository=two).changes if c.what == "accuracy")
    assert (metric.before, metric.after, metric.difference) == (0.75, 0.5, -0.25)


def edit(repository, version, change):
    path = repository / "scores" / str(version) / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_tensors_files_software_and_sources_are_compared(repository):
    def change(content):
        content["spec"]["inputs"][0]["dims"] = [4]
        content["spec"]["outputs"][0]["name"] = "probabilities"
        content["files"]["new.bin"] = {"size_bytes": 10, "sha256": ""}
        del content["files"]["card.md"]
        content["makers"]["torch"] = "1.0"
        content["facts"] = {"recipe_sha256": "a"}

    edit(repository, 2, change)
    found = {(c.part, c.what): (c.before, c.after) for c in diff("scores", 1, 2, repository=repository).changes}
    assert found["tensors", "input x"] == ("FP32[3]", "FP32[4]")
    assert found["tensors", "output scores"] == ("FP32[2]", None)
    assert found["tensors", "output probabilities"] == (None, "FP32[2]")
    assert found["files", "new.bin"] == (None, 10) and found["files", "card.md"][1] is None
    assert found["made with", "torch"][1] == "1.0"
    assert found["facts", "recipe_sha256"] == (None, "a")


def test_parameters_and_steps_are_compared_by_name(repository):
    path = repository / "scores" / "2" / "config.pbtxt"
    config = configs.read(path)
    config.parameters["intra_op_thread_count"].string_value = "2"
    config.dynamic_batching.preferred_batch_size.extend([4, 8])
    config.instance_group[0].kind = 3
    path.write_text(configs.text(config))
    found = {c.what: (c.before, c.after) for c in diff("scores", 1, 2, repository=repository).changes}
    assert found["parameters[intra_op_thread_count].string_value"] == (None, "2")
    assert found["dynamic_batching.preferred_batch_size[1]"] == (None, 8)
    assert found["dynamic_batching"] == ("set", None)
    assert found["instance_group[0].kind"] == (None, "KIND_MODEL")


def test_versions_without_evidence_and_configuration_are_compared_by_the_rest(repository):
    for version in (1, 2):
        for name in ("evidence.json", "config.pbtxt"):
            (repository / "scores" / str(version) / name).unlink()
    found = diff("scores", 1, 2, repository=repository)
    assert {c.part for c in found.changes} <= {"version", "files"}


@pytest.mark.parametrize(
    ("model", "versions", "error"),
    [("nope", (1, 2), ModelNotFoundError), ("scores", (1, 9), VersionNotFoundError)],
)
def test_what_is_not_there_is_one_clear_error(two, model, versions, error):
    with pytest.raises(error) as caught:
        diff(model, *versions, repository=two)
    assert caught.value.why and caught.value.fix


def test_a_broken_version_is_one_clear_error(repository):
    (repository / "scores" / "2" / manifests.MANIFEST_FILE).unlink()
    with pytest.raises(ManifestError, match="scores/2"):
        diff("scores", 1, 2, repository=repository)
