"""Python models and ensembles are published with the answers that they must give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport.commands.assemble import publish_ensemble, publish_python_model
from modelport.commands.export import Exported
from modelport.errors import InvalidNameError, NotFiniteError, UsageError
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository.config import EnsembleStep
from modelport.repository.layout import state_folder
from modelport.spec import ModelSpec, TensorSpec, dtype_of
from modelport.verify import evidence as evidences

TEXT = TensorSpec(name="text", dtype=dtype_of("BYTES"), dims=(1,))
LENGTH = TensorSpec(name="length", dtype=dtype_of("FP32"), dims=(1,))
SPEC = ModelSpec(name="counter", inputs=(TEXT,), outputs=(LENGTH,), max_batch_size=8)
EXAMPLES = {"text": np.array([["a"], ["bb"]])}
ANSWERS = {"length": np.array([[1], [2]], np.float32)}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model_repository"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """model.py and a file that it reads."""
    (tmp_path / "model.py").write_text("class TritonPythonModel: pass\n")
    (tmp_path / "words.txt").write_text("a\n")
    return [tmp_path / "model.py", tmp_path / "words.txt"]


@pytest.fixture
def go(target: Path, files: list[Path]) -> Callable[..., Exported]:
    def act(spec: ModelSpec = SPEC, paths: list[Any] | None = None, **options: Any) -> Exported:
        options = {"example_inputs": EXAMPLES, "answers": ANSWERS, "repository": target, **options}
        return publish_python_model(spec, files if paths is None else paths, **options)

    return act


def nothing_published(target: Path) -> bool:
    staging = state_folder(target) / "staging"
    return not target.exists() and not (staging.exists() and list(staging.iterdir()))


def test_a_python_model_is_a_version_like_others(go):
    done = go(parameters={"size": "3"}, facts={"recipe": "abc"})
    assert {p.name for p in done.folder.iterdir()} == {
        "model.py", "words.txt", "manifest.json", "evidence.json", "golden.npz", "card.md", "__pycache__",
        "config.pbtxt",
    }  # fmt: skip
    assert (done.folder / "__pycache__").is_file(), "in the way of bytecode, which would change the version"
    manifest = manifests.read(done.folder)
    manifests.check_files(done.folder, manifest)
    assert (manifest.format, manifest.backend, manifest.facts) == ("python", "python", {"recipe": "abc"})
    config = configs.read(done.folder.parent / "config.pbtxt")
    assert (config.backend, config.default_model_filename) == ("python", "model.py")
    assert config.parameters["size"].string_value == "3" and configs.versions_of(config) == (1,)


def test_the_given_answers_are_the_evidence(go):
    evidence, golden = evidences.read(go().folder)
    assert evidence.samples == 2 and evidence.tolerances["length"].kind == "fixed"
    assert golden.inputs["text"].dtype == object and golden.inputs["text"].tolist() == [["a"], ["bb"]]
    assert np.array_equal(golden.outputs["length"], ANSWERS["length"])


def test_new_parameters_reach_the_next_version(go):
    go(parameters={"size": "3"})
    done = go(parameters={"size": "4"}, instance_count=2)
    config = configs.read(done.folder / "config.pbtxt")
    assert done.serving is False and manifests.read(done.folder).asked == ("instance_group",)
    assert config.parameters["size"].string_value == "4" and config.instance_group[0].count == 2


def test_an_ensemble_has_no_artefact(target):
    steps = [EnsembleStep(model="net", inputs={"x": "text"}, outputs={"y": "length"})]
    done = publish_ensemble(
        SPEC, steps, example_inputs=EXAMPLES, answers=ANSWERS,
        double_answers={"length": ANSWERS["length"] + 1e-7}, repository=target,
    )  # fmt: skip
    assert {p.name for p in done.folder.iterdir()} == {
        "manifest.json", "evidence.json", "golden.npz", "card.md", "config.pbtxt",
    }  # fmt: skip
    config = configs.read(done.folder.parent / "config.pbtxt")
    assert config.platform == "ensemble" and config.ensemble_scheduling.step[0].model_name == "net"
    assert done.evidence.tolerances["length"].kind == "noise_floor"


def test_a_file_that_triton_would_run_is_refused(go, target, tmp_path, files):
    (tmp_path / "triton_python_backend_stub").touch()
    with pytest.raises(InvalidNameError, match="triton_python_backend_stub"):
        go(paths=[*files, tmp_path / "triton_python_backend_stub"])
    assert nothing_published(target)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda files, folder: [], ["no model.py", "none"]),
        (lambda files, folder: files[1:], ["no model.py"]),
        (lambda files, folder: [*files, folder / "missing.txt"], ["missing.txt is no file"]),
        (lambda files, folder: [*files, folder], ["is no file that can be read"]),
        (lambda files, folder: [*files, files[1]], ["words.txt comes twice"]),
        (
            lambda files, folder: [*files, *map(folder.joinpath, ("manifest.json", "golden.npz"))],
            ["manifest.json is a name"],
        ),
        (lambda files, folder: [folder / "gone.py", files[1], files[1]], ["gone.py is no", "twice", "no model.py"]),
    ],
    ids=["none", "no model.py", "missing", "a folder", "twice", "our own names", "several"],
)
def test_files_that_cannot_be_published_are_all_named(go, target, tmp_path, files, change, words):
    with pytest.raises(UsageError) as caught:
        go(paths=change(files, tmp_path))
    assert all(word in caught.value.what + caught.value.why for word in words) and caught.value.fix
    assert nothing_published(target)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"example_inputs": {"txt": EXAMPLES["text"]}}, ["['txt']", "['text']"]),
        ({"answers": {}}, ["['length']"]),
        ({"answers": {"length": np.ones((2, 3), np.float32)}}, ["float32[2, 3]", "length: FP32[1]"]),
        ({"answers": {"length": np.ones((2, 1))}}, ["float64[2, 1]"]),
        ({"answers": {"length": np.ones((3, 1), np.float32)}}, ["different numbers of rows"]),
        ({"answers": {"length": np.float32(1) * np.ones((), np.float32)}}, ["'length'"]),
        ({"example_inputs": {"text": np.ones((2, 1), np.int64)}}, ["int64[2, 1]"]),
    ],
    ids=["input name", "no answer", "shape", "type", "rows", "no axis", "numbers for text"],
)
def test_examples_that_are_not_the_specs_are_named(go, target, options, words):
    with pytest.raises(UsageError) as caught:
        go(**options)
    assert all(word in caught.value.what for word in words) and caught.value.fix
    assert nothing_published(target)


def test_nan_among_the_answers_is_refused(go, target):
    with pytest.raises(NotFiniteError):
        go(answers={"length": np.array([[1], [np.nan]], np.float32)})
    assert nothing_published(target)


def test_a_name_that_breaks_the_rule_is_refused(go, target):
    with pytest.raises(InvalidNameError):
        go(ModelSpec(name="a b", inputs=(TEXT,), outputs=(LENGTH,), max_batch_size=8))
    assert nothing_published(target)
