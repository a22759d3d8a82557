"""An export is converted, proved and published as a whole, or not at all."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from modelport.commands.export import Exported, export
from modelport.errors import (
    BatchAxisError,
    ConversionError,
    ExampleInputError,
    InvalidNameError,
    NotFiniteError,
    RepositoryError,
    UsageError,
    VerificationError,
)
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository.card import Card
from modelport.repository.layout import state_folder
from modelport.verify import evidence as evidences

F32 = np.float32


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where no repository is yet."""
    return tmp_path / "model_repository"


@pytest.fixture
def go(target: Path, x: np.ndarray) -> Callable[..., Exported]:
    """`go(model, **options)`: export it as TorchScript, which is quick, with eight samples."""

    def act(model: Any, **options: Any) -> Exported:
        given = {"name": "m", "repository": target, "format": "torchscript", "example_inputs": {"x": x}}
        return export(model, **{**given, **options})

    return act


def nothing_published(target: Path) -> bool:
    staging = state_folder(target) / "staging"
    return not target.exists() and not (staging.exists() and list(staging.iterdir()))


# --- what an export makes --------------------------------------------------------------------------------------------


def test_a_version_is_complete(exported):
    folder = exported / "scores" / "2"
    assert {p.name for p in folder.iterdir()} == {
        "model.onnx",
        "manifest.json",
        "evidence.json",
        "golden.npz",
        "card.md",
        "config.pbtxt",
        "scores_labels.txt",
    }
    manifests.check_files(folder, manifests.read(folder))
    assert {p.name for p in folder.parent.iterdir()} == {"1", "2", "config.pbtxt", "scores_labels.txt"}
    assert (folder.parent / "scores_labels.txt").read_text() == "cat\ndog\n"
    config = configs.read(folder.parent / "config.pbtxt")
    assert (config.backend, config.default_model_filename, config.max_batch_size) == ("onnxruntime", "model.onnx", 32)
    assert configs.versions_of(config) == (1,) and config.output[0].label_filename == "scores_labels.txt"


def test_the_manifest_tells_what_was_made_from_what(exported):
    folder = exported / "traced" / "1"
    manifest = manifests.read(folder)
    manifests.check_files(folder, manifest)
    assert (manifest.format, manifest.backend, manifest.version) == ("torchscript", "pytorch", 1)
    assert manifest.framework.startswith("pytorch ") and manifest.created.endswith("+00:00")
    assert {"torch", "numpy", "modelport"} <= set(manifest.makers) and manifest.note == ""


def test_the_evidence_holds_the_sources_answers(exported, net, x):
    evidence, golden = evidences.read(exported / "scores" / "1")
    wanted = net()(torch.from_numpy(x)).detach().numpy()
    assert np.array_equal(golden.inputs["x"], x)
    assert np.abs(golden.outputs["scores"] - wanted).max() < 1e-7
    assert evidence.tolerances["scores"].kind == "noise_floor" and evidence.batch_proof.proved
    assert 0 < evidence.tolerances["scores"].max_abs < 1e-4


def test_the_card_names_tensors_and_tolerance(go):
    done = go(
        torch.nn.Linear(3, 2),
        card=Card(title="Net", description="A net.", metrics={"r2": 0.5}),
        facts={"recipe": "abc"},
    )
    text = (done.folder / "card.md").read_text()
    assert (
        "# Net" in text
        and "input `x: FP32[3]`" in text
        and "largest error of output" in text
        and "| r2 | 0.5 |" in text
    )
    manifest = manifests.read(done.folder)
    assert manifest.metrics == {"r2": 0.5} and manifest.facts == {"recipe": "abc"}


def test_labels_that_do_not_fit_are_refused_before_anything_is_written(go):
    said: list[str] = []
    with pytest.raises(UsageError, match="3 labels were given for output 'output', which has 2 elements"):
        go(torch.nn.Linear(3, 2), labels=["a", "b", "c"], report=said.append)
    assert said[-1].startswith("running the source")


def test_the_steps_are_reported(go):
    said: list[str] = []
    go(torch.nn.Linear(3, 2), report=said.append)
    assert said[0] == "opening the model" and said[-1] == "publishing" and len(said) == 5


def test_keras_and_onnx_become_onnx_by_themselves(target, tmp_path, x):
    model = keras.Sequential([keras.Input((3,), name="features"), keras.layers.Dense(2)])
    done = export(model, name="k", repository=target, output_names=["value"])
    assert [str(t) for t in (*done.spec.inputs, *done.spec.outputs)] == ["features: FP32[3]", "value: FP32[2]"]
    again = export(done.folder / "model.onnx", name="o", repository=target)
    assert (again.folder / "model.onnx").is_file() and again.spec.inputs == done.spec.inputs
    assert again.evidence.tolerances["value"].kind == "fixed"


def test_a_script_stays_torchscript_by_itself(target, tmp_path, x):
    torch.jit.save(torch.jit.script(torch.nn.Linear(3, 2)), tmp_path / "net.pt")
    done = export(tmp_path / "net.pt", name="s", repository=target, inputs=["input:float32:batch,3"])
    assert (done.folder / "model.pt").is_file() and done.spec.max_batch_size == 32


def test_strings_are_served_from_an_onnx_file(target, tmp_path):
    values = [helper.make_tensor_value_info(name, TensorProto.STRING, ["n", 2]) for name in ("text", "same")]
    graph = helper.make_graph([helper.make_node("Identity", ["text"], ["same"])], "g", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "t.onnx")
    done = export(tmp_path / "t.onnx", name="t", repository=target, example_inputs={"text": np.array([["ü", "b"]] * 2)})
    assert str(done.spec.inputs[0]) == "text: BYTES[2]" and done.evidence.tolerances["same"].kind == "exact"
    assert evidences.read(done.folder)[1].inputs["text"][0].tolist() == ["ü", "b"]


def test_the_callers_arrays_stay_as_they_are(go, x):
    before = x.copy()
    done = go(torch.nn.Sequential(torch.nn.ReLU(inplace=True), torch.nn.Linear(3, 2)))
    assert np.array_equal(x, before)
    assert np.array_equal(evidences.read(done.folder)[1].inputs["x"], before)


# --- the batch axis --------------------------------------------------------------------------------------------------

MIXING = {
    "softmax over the rows": lambda net, x: net.linear(x).softmax(0),
    "batch statistics": lambda net, x: (x - x.mean(0)) / (x.std(0) + 1),
    "rows written down": lambda net, x: x.reshape(8, 3),
    "one answer for all": lambda net, x: x.sum(),
    "rows lost": lambda net, x: x[1:],
    "the first row everywhere": lambda net, x: x * x[0],
}


@pytest.mark.parametrize("function", MIXING.values(), ids=MIXING)
def test_a_batch_axis_that_is_none_is_an_error_when_it_was_asked_for(go, net, target, function):
    with pytest.raises(BatchAxisError) as caught:
        go(net(function), max_batch_size=8)
    assert caught.value.model == "m" and caught.value.why and "--max-batch-size 0" in caught.value.fix
    assert nothing_published(target)


@pytest.mark.parametrize("name", [n for n in MIXING if n not in ("one answer for all", "rows written down")])
def test_it_is_dropped_with_its_reason_when_that_was_left_open(go, net, name):
    done = go(net(MIXING[name]))
    assert done.spec.max_batch_size == 0 and done.spec.inputs[0].dims == (-1, 3)
    manifest = manifests.read(done.folder)
    assert manifest.note.startswith("no batch axis: ") and manifest.note == done.evidence.note
    assert not configs.read(done.folder.parent / "config.pbtxt").HasField("dynamic_batching")


def test_rows_that_are_written_down_stay_fixed(go, net):
    done = go(net(MIXING["rows written down"]))
    assert done.spec.inputs[0].dims == (8, 3) and "batch of 1 fails" in done.evidence.note


def test_rows_that_are_all_alike_do_not_hide_that_they_mix(go, net):
    done = go(net(MIXING["batch statistics"]), example_inputs={"x": np.ones((8, 3), F32) * np.arange(3, dtype=F32)})
    assert done.spec.max_batch_size == 0


@pytest.mark.parametrize("asked", [None, 8])
def test_a_fixed_first_size_is_no_batch_axis(go, asked):
    """It is stated in a declaration, by a Keras model or in an ONNX file."""
    options = {"example_inputs": None, "inputs": ["x:float32:4,3"], "max_batch_size": asked}
    if asked:
        with pytest.raises(BatchAxisError, match="max_batch_size 8"):
            go(torch.nn.Linear(3, 2), **options)
        return
    done = go(torch.nn.Linear(3, 2), **options)
    assert done.spec.max_batch_size == 0 and "fixed first size" in done.evidence.note


def test_no_batch_axis_on_demand_needs_no_reason(go):
    done = go(torch.nn.Linear(3, 2), max_batch_size=0)
    assert (done.spec.max_batch_size, done.spec.inputs[0].dims, done.evidence.note) == (0, (8, 3), "")


def test_a_declared_batch_varies_without_a_batch_axis(go):
    done = go(torch.nn.Linear(3, 2), max_batch_size=0, example_inputs=None, inputs=["x:float32:batch,3"])
    assert (done.spec.max_batch_size, done.spec.inputs[0].dims) == (0, (-1, 3))


def test_the_asked_batch_size_is_written(go):
    done = go(torch.nn.Linear(3, 2), max_batch_size=7)
    assert configs.read(done.folder.parent / "config.pbtxt").max_batch_size == done.spec.max_batch_size == 7


class Masked(torch.nn.Module):
    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.masked = masked

    def forward(self, tokens):
        count = (tokens != 0).sum(dim=1) if self.masked else torch.full_like(tokens[:, 0], 1) * tokens.shape[1]
        return (tokens.sum(dim=1) / count.clamp(min=1))[:, None]


TOKENS = {"tokens": np.random.default_rng(0).integers(1, 9, (6, 7))}


def test_what_may_be_filled_up_is_proved_and_kept_with_the_version(go):
    options = {"example_inputs": TOKENS, "dynamic_axes": {"tokens": {1: "time"}}, "pad": {"tokens": 0}}
    done = go(Masked(masked=True), format="onnx", **options)
    assert done.evidence.padding_error is not None and done.evidence.padding_error < 1e-6
    assert manifests.read(done.folder).spec.inputs[0].pad == 0
    assert evidences.read(done.folder)[0].padding_error == done.evidence.padding_error


def test_a_model_that_looks_at_what_is_filled_up_is_not_published(go, target):
    options = {"example_inputs": TOKENS, "dynamic_axes": {"tokens": {1: "time"}}, "pad": {"tokens": 0}}
    with pytest.raises(VerificationError, match="cannot be filled up with tokens=0"):
        go(Masked(masked=False), format="onnx", **options)
    assert nothing_published(target)


def test_without_a_batch_axis_nothing_is_filled_up(go, target):
    options = {"dynamic_axes": {"x": {1: "time"}}, "pad": {"x": 0}}
    with pytest.raises(BatchAxisError):  # it is not silently exported without
        go(torch.nn.Softmax(dim=0), format="onnx", **options)
    assert nothing_published(target)


# --- the next version ------------------------------------------------------------------------------------------------


def test_settings_that_were_not_asked_for_stay(go):
    model = torch.nn.Linear(3, 2)
    first = go(model, max_batch_size=7, instance_count=2, parameters={"A": "1"})
    path = first.folder.parent / "config.pbtxt"
    before = path.read_bytes()
    plain = go(model)
    asking = go(model, max_batch_size=9, instance_count=3, parameters={"A": "2"})
    assert [done.serving for done in (first, plain, asking)] == [True, False, False]
    assert path.read_bytes() == before, "candidates change nothing; promoting them does"
    assert (manifests.read(plain.folder).asked, manifests.read(asking.folder).asked) == (
        (), ("max_batch_size", "instance_group"),
    )  # fmt: skip
    own = configs.read(asking.folder / "config.pbtxt")
    assert (own.max_batch_size, own.instance_group[0].count, own.parameters["A"].string_value) == (9, 3, "2")


def test_also_a_first_version_can_be_a_candidate(go):
    done = go(torch.nn.Linear(3, 2), candidate=True)
    assert done.serving is False and configs.versions_of(configs.read(done.folder.parent / "config.pbtxt")) == ()


def test_another_interface_or_format_is_refused(go, target, x):
    go(torch.nn.Linear(3, 2))
    before = sorted(target.rglob("*"))
    for model, options in ((torch.nn.Linear(3, 4), {}), (torch.nn.Linear(3, 2), {"format": "onnx"})):
        with pytest.raises(RepositoryError) as caught:
            go(model, **options)
        assert caught.value.fix
    assert sorted(target.rglob("*")) == before


# --- a conversion that is wrong --------------------------------------------------------------------------------------


class Spoiled(torch.nn.Module):
    """Computes something else while it is traced or exported: a conversion that went wrong."""

    def __init__(self, spoil: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
        self.spoil = spoil

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x)
        return self.spoil(y) if torch.jit.is_tracing() or torch.compiler.is_exporting() else y


@pytest.mark.parametrize("format", ["torchscript", "onnx"])
@pytest.mark.parametrize(
    ("spoil", "error"),
    [(lambda y: y * 1.01, VerificationError), (lambda y: y / (y - y), NotFiniteError)],
    ids=["a weight", "NaN"],
)
def test_a_wrong_artefact_is_not_published(go, target, format, spoil, error):
    with pytest.raises(error) as caught:
        go(Spoiled(spoil), format=format, max_batch_size=8)
    if error is VerificationError:
        assert caught.value.max_abs_error > caught.value.tolerance > 0 and "in process" in caught.value.what
    assert nothing_published(target)


def test_nan_in_the_model_is_not_published(go, target):
    model = torch.nn.Linear(3, 2)
    model.weight.data[0, 0] = float("nan")
    with pytest.raises(NotFiniteError, match="the source itself"):
        go(model)
    assert nothing_published(target)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": "a b"}, InvalidNameError),
        ({"name": "../m"}, InvalidNameError),
        ({"output_names": ["a;b"]}, InvalidNameError),
        ({"max_batch_size": -1}, UsageError),
        ({"max_batch_size": 65_537}, UsageError),
        ({"instance_count": 0}, UsageError),
        ({"format": "tflite"}, UsageError),
        ({"output_names": ["a", "b"]}, UsageError),
        ({"labels": ["only one"]}, UsageError),
        ({"labels": []}, UsageError),
        ({"labels": ["one\nline", "two"]}, UsageError),
        ({"labels": ["cat", "d\nog"]}, UsageError),
        ({"inputs": ["x:float32:batch,4"]}, ExampleInputError),
        ({"inputs": ["x"]}, UsageError),
        ({"example_inputs": {}}, ExampleInputError),
        ({"example_inputs": None}, ExampleInputError),
        ({"example_inputs": {"x": np.ones((8, 5), F32)}}, ExampleInputError),
        ({"example_inputs": {"x": np.full((8, 3), np.nan, F32)}}, ExampleInputError),
        ({"example_inputs": {"x": [[1.0, 2.0, 3.0]]}}, ExampleInputError),
        ({"dynamic_axes": {"z": {1: "n"}}}, ExampleInputError),
        ({"weights": "w.safetensors"}, UsageError),
    ],
    ids=str,
)
def test_bad_options_are_one_clear_error_and_leave_nothing(go, target, options, error):
    with pytest.raises(error) as caught:
        go(torch.nn.Linear(3, 2), **options)
    assert caught.value.what and caught.value.why and caught.value.fix
    assert nothing_published(target)


def test_wrong_options_are_listed_together_before_the_model_is_opened(target):
    with pytest.raises(UsageError) as caught:
        export("missing.onnx", name="m", repository=target, format="tflite", max_batch_size=-3, instance_count=0)
    for word in ("tflite", "-3", "instance_count 0"):
        assert word in caught.value.what


def test_a_model_that_fails_to_trace_leaves_nothing(go, target, net):
    with pytest.raises(ConversionError):
        go(net(lambda net, x: x if x.sum() > 0 else -x))
    assert nothing_published(target)


def test_a_repository_path_that_triton_cannot_be_given_is_refused_first(go, tmp_path):
    with pytest.raises(InvalidNameError, match="a b"):
        go("missing.onnx", repository=tmp_path / "a b")
    assert not (tmp_path / "a b").exists()


def test_label_files_stay_inside_the_models_folder(go, tmp_path):
    """An output's name may hold slashes and dots."""
    name = "a/../../../../label"
    done = go(torch.nn.Linear(3, 2), output_names=[name], labels=["cat", "dog"])
    (labels,) = done.folder.parent.glob("*.txt")
    assert labels.read_text() == "cat\ndog\n"
    config = configs.read(done.folder.parent / "config.pbtxt")
    assert (config.output[0].name, config.output[0].label_filename) == (name, labels.name)
    assert not list(tmp_path.glob("*label*"))


@pytest.mark.parametrize("format", ["torchscript", "onnx"])
def test_a_full_disk_is_one_clear_error(tmp_path, go, require, format):
    """While the artefact itself is written."""
    disk = tmp_path / "disk"
    disk.mkdir()
    require("root's right to mount a tmpfs", present=os.geteuid() == 0)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "modelport-test", str(disk)], check=False)
    require("the right to mount a tmpfs", present=done.returncode == 0)
    try:
        with pytest.raises(RepositoryError, match="No space left") as caught:
            go(torch.nn.Linear(3, 100_000), repository=disk / "models", format=format, max_batch_size=0)
        assert caught.value.fix and nothing_published(disk / "models")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
