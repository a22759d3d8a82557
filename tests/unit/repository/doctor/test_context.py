"""Repositories of any kind can be read: strange files in it neither stop nor mislead the look."""

from __future__ import annotations

import os

import pytest

from modelport.errors import ModelNotFoundError, RepositoryError, UsageError
from modelport.repository.doctor import context
from modelport.repository.doctor.targets import TARGETS, target_of


def test_a_missing_repository_and_a_file_are_errors(tmp_path):
    (tmp_path / "file").touch()
    for name in ("missing", "file"):
        with pytest.raises(RepositoryError, match=name):
            context.read(tmp_path / name, TARGETS[0])


def test_an_unknown_target_is_an_error_that_names_the_known_ones():
    with pytest.raises(UsageError, match=r"25\.01") as caught:
        target_of("25.01")
    assert all(target.name in str(caught.value) for target in TARGETS)


def test_an_unknown_model_is_an_error(repo):
    with pytest.raises(ModelNotFoundError, match="other") as caught:
        context.read(repo.root, TARGETS[0], ["other"])
    assert "net" in caught.value.why


def test_with_names_only_these_models_are_looked_at(repo, look):
    """Without what concerns the repository; other models still count for an ensemble's steps."""
    repo.file(".git/HEAD")
    repo.ensemble()
    repo.file("net/README.md")
    assert {f.model for f in look(repo, names=["flow"])} <= {"flow"}
    assert {f.rule for f in look(repo, names=["flow"])} == set()
    assert {f.rule for f in look(repo)} == {"root-folder", "stray-file", "instances-gpu-only"}


def test_pipes_and_endless_files_are_not_read(repo, look):
    """A pipe as configuration, manifest or artefact would never end."""
    (repo.net / "1" / "model.onnx").unlink()
    for name in ("config.pbtxt", "1/manifest.json", "1/model.onnx"):
        (repo.net / name).unlink(missing_ok=True)
        os.mkfifo(repo.net / name)
    found = {f.rule for f in look(repo)}
    assert {"config-unreadable", "manifest-unreadable"} <= found
    (repo.net / "config.pbtxt").unlink()
    (repo.net / "config.pbtxt").symlink_to("/dev/zero")
    assert "config-unreadable" in {f.rule for f in look(repo)}
    (repo.net / "config.pbtxt").unlink()
    assert "artefact-format" in {f.rule for f in look(repo)}


def test_names_of_any_bytes_are_reported_so_that_they_can_be_printed(repo, look):
    (repo.root / os.fsdecode(b"\xff\n\x1b[31m")).mkdir()
    (found,) = [f for f in look(repo) if f.rule == "root-folder"]
    assert (found.place + found.what).isprintable()
    (found.place + found.what).encode()


@pytest.mark.parametrize(
    ("platform", "file", "backend"),
    [
        ("tensorrt_plan", "model.plan", "tensorrt"),
        ("tensorflow_graphdef", "model.graphdef", "tensorflow"),
        ("onnxruntime_onnx", "model.onnx", "onnxruntime"),
        ("pytorch_libtorch", "model.pt", "pytorch"),
    ],
)
def test_the_older_way_to_say_the_backend_is_known(repo, platform, file, backend):
    repo.config(('backend: "onnxruntime"', f'platform: "{platform}"'))
    (model,) = context.read(repo.root, TARGETS[0]).models
    assert (model.backend, model.artefact) == (backend, file)


@pytest.mark.parametrize(
    ("files", "backend"),
    [
        (["1/model.plan"], "tensorrt"),
        (["1/model.py"], "python"),
        (["1/model.savedmodel/saved_model.pb"], "tensorflow"),
        (["1/weights"], ""),
        (["1/model.onnx", "0tmp/notes"], ""),  # Triton looks into the first folder, which is 0tmp
    ],
)
def test_a_backend_that_is_not_said_is_guessed_as_triton_does(repo, files, backend):
    for file in files:
        repo.file(f"bare/{file}")
    model = context.read(repo.root, TARGETS[0], ["bare"]).models[0]
    assert model.backend == backend


def test_a_foreign_repository_is_read_without_errors(repo, look):
    """Handwritten, of several backends, no manifests: errors only where Triton would give one."""
    repo.file("trt/1/model.plan", b"\x00")
    repo.file(
        "trt/config.pbtxt",
        'platform: "tensorrt_plan"\nmax_batch_size: 4\ninput { name: "a" data_type: TYPE_FP16 dims: 3 }\n'
        'output { name: "b" data_type: TYPE_FP16 dims: 3 }\n',
    )
    repo.file("py/1/model.py", "")
    repo.file("py/1/helper.py", "")
    repo.file("py/environment.tar.gz", "")
    repo.file(
        "py/config.pbtxt",
        'backend: "python"\ninput { name: "a" data_type: TYPE_STRING dims: -1 }\n'
        'output { name: "b" data_type: TYPE_STRING dims: -1 }\ninstance_group { kind: KIND_CPU }\n',
    )
    repo.file("llm/1/model.json", "{}")
    repo.file("llm/config.pbtxt", 'backend: "vllm"\ninstance_group { count: 1 kind: KIND_MODEL }\n')
    errors = [f for f in look(repo, "24.10") if f.severity == "error"]
    assert errors == []
    assert {f.rule for f in look(repo) if f.model == "py"} == {"policy-missing"}
