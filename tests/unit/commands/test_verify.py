"""`verify` in this process: what was published still answers as the trained model did, or says how far off it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from modelport.commands.verify import verify
from modelport.errors import (
    BatchAxisError,
    InvalidNameError,
    ManifestError,
    ModelNotFoundError,
    NotFiniteError,
    RepositoryError,
    UnreachableError,
    UsageError,
    VerificationError,
    VersionNotFoundError,
)
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.verify import evidence as evidences


@pytest.mark.parametrize(("model", "samples"), [("scores", 16), ("traced", 16), ("mixing", 1)])
def test_what_was_published_passes(exported, model, samples):
    (done,) = verify(model, repository=exported)
    (found,) = done.comparisons.values()
    assert (done.model, done.where, done.how, found.samples) == (model, "in process", "single and batch", samples)
    assert found.ok and found.max_abs_error <= found.allowed


def test_the_serving_version_is_meant_when_none_is_named(repository):
    assert verify("scores", repository=repository)[0].version == 1
    assert verify("scores/2", repository=repository)[0].version == 2
    path = repository / "scores" / "config.pbtxt"
    config = configs.read(path)
    configs.set_versions(config, [1, 2])
    path.write_text(configs.text(config))
    assert verify("scores", repository=repository)[0].version == 2, "the highest of those that are loaded"
    configs.set_versions(config, [])
    path.write_text(configs.text(config))
    assert verify("scores", repository=repository)[0].version == 2, "where none is, the highest"
    path.unlink()
    assert verify("scores", repository=repository)[0].version == 2, "without a configuration the highest"


# --- what was changed afterwards -------------------------------------------------------------------------------------


def scale_onnx(folder: Path, factor: float) -> None:
    model = onnx.load(folder / "model.onnx")
    (weight, *_) = [t for t in model.graph.initializer if len(t.dims) == 2]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(factor), weight.name))
    onnx.save(model, folder / "model.onnx")


def scale_script(folder: Path, factor: float) -> None:
    module = torch.jit.load(folder / "model.pt")
    with torch.no_grad():
        next(p for p in module.parameters() if p.dim() == 2).mul_(factor)
    torch.jit.save(module, folder / "model.pt")


def sign(folder: Path) -> None:
    """Make the manifest fit the files again, as somebody who knows his way might."""
    manifests.write(folder, replace(manifests.read(folder), files=manifests.records(folder)))


ARTEFACTS = [("scores/2", scale_onnx), ("traced/1", scale_script)]


@pytest.mark.parametrize(("reference", "scale"), ARTEFACTS)
def test_a_changed_file_is_named(repository, reference, scale):
    scale(repository / reference, 1.0001)
    with pytest.raises(ManifestError, match=r"model\.\w+ was changed"):
        verify(reference, repository=repository)


@pytest.mark.parametrize(("reference", "scale"), ARTEFACTS)
def test_an_altered_weight_is_found_with_the_largest_error(repository, reference, scale):
    """Even when the manifest fits the file again, and by as little as a hundredth."""
    folder = repository / reference
    scale(folder, 1.01)
    sign(folder)
    with pytest.raises(VerificationError) as caught:
        verify(reference, repository=repository)
    error = caught.value
    assert error.max_abs_error > error.tolerance > 0 and error.exit_code == 20
    assert error.tensor == "scores" and f"{error.max_abs_error:.3g}" in error.what


@pytest.mark.parametrize(("reference", "scale"), ARTEFACTS)
def test_nan_in_a_weight_is_found(repository, reference, scale):
    folder = repository / reference
    scale(folder, float("nan"))
    sign(folder)
    with pytest.raises(NotFiniteError):
        verify(reference, repository=repository)


def test_a_batch_axis_that_no_longer_holds_is_found(repository):
    """The golden rows are answered rightly, singly and together; only other combinations are not."""

    class Mixing(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.shape[0] in (1, 8) else x.flip(0)

    folder = repository / "traced" / "1"
    torch.jit.save(torch.jit.script(Mixing()), folder / "model.pt")
    evidence, golden = evidences.read(folder)
    same = evidences.Golden(inputs=golden.inputs, outputs={"scores": golden.inputs["x"]})
    evidences.write(folder, evidence, same)
    sign(folder)
    with pytest.raises(BatchAxisError) as caught:
        verify("traced", repository=repository)
    assert "batch of 2" in caught.value.why


def change_json(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return act


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "evidence.json").unlink(),
        lambda folder: (folder / "golden.npz").write_bytes(b""),
        lambda folder: (folder / "extra").touch(),
        change_json("evidence.json", lambda content: content["tolerances"]["scores"].update(max_abs=1e9)),
        change_json("manifest.json", lambda content: content["files"].pop("golden.npz")),
        lambda folder: (folder.parent / "config.pbtxt").write_text("broken {"),
    ],
    ids=["no manifest", "no evidence", "golden emptied", "file added", "tolerance widened", "file unlisted", "config"],
)
def test_a_damaged_version_is_one_clear_error(repository, damage):
    damage(repository / "traced" / "1")
    with pytest.raises(ManifestError) as caught:
        verify("traced", repository=repository)
    assert caught.value.why and caught.value.fix and "traced" in caught.value.what


# --- what is not there -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ("nope", ModelNotFoundError),
        ("scores/9", VersionNotFoundError),
        ("scores/latest", InvalidNameError),
        ("../scores", InvalidNameError),
        ("", InvalidNameError),
    ],
)
def test_what_is_not_there_is_one_clear_error(exported, reference, error):
    with pytest.raises(error) as caught:
        verify(reference, repository=exported)
    assert caught.value.why and caught.value.fix


def test_a_missing_repository_is_one_clear_error(tmp_path):
    with pytest.raises(RepositoryError, match="no model repository"):
        verify("scores", repository=tmp_path / "nowhere")


def test_a_configuration_that_names_a_missing_version_is_one_clear_error(repository):
    path = repository / "scores" / "config.pbtxt"
    config = configs.read(path)
    configs.set_versions(config, [7])
    path.write_text(configs.text(config))
    with pytest.raises(VersionNotFoundError, match="7"):
        verify("scores", repository=repository)


def test_what_only_a_server_can_run_says_so(repository):
    folder = repository / "traced" / "1"
    manifests.write(folder, replace(manifests.read(folder), format="ensemble"))
    with pytest.raises(UsageError) as caught:
        verify("traced", repository=repository)
    assert "--url" in caught.value.fix


def test_an_unreachable_server_is_one_clear_error(exported, free_port):
    for scheme in ("http", "grpc"):
        with pytest.raises(UnreachableError) as caught:
            verify("scores", repository=exported, urls=(f"{scheme}://127.0.0.1:{free_port()}",), timeout_s=2)
        assert caught.value.why and caught.value.fix and caught.value.exit_code == 51
