"""A version folder that was copied in becomes a version when it holds, and stays as it is when it does not."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from modelport.cli import main
from modelport.commands.adopt import Adopted, adopt
from modelport.commands.verify import verify
from modelport.errors import (
    BatchAxisError,
    ManifestError,
    ModelportError,
    NotFiniteError,
    RepositoryError,
    SourceFormatError,
    UnsafeSourceError,
    UsageError,
    VerificationError,
    VersionNotFoundError,
)
from modelport.repository import config as configs
from modelport.repository import drops, placed, record, switch
from modelport.repository import manifest as manifests
from modelport.repository.layout import config_path
from modelport.verify import evidence as evidences

WEIGHTS = np.random.default_rng(1).standard_normal((3, 2)).astype(np.float32)


def graph(
    *,
    input_name: str = "x",
    output_name: str = "scores",
    dtype: int = TensorProto.FLOAT,
    sizes: tuple[Any, ...] = ("batch", 3),
    weights: np.ndarray = WEIGHTS,
    mixing: bool = False,
) -> onnx.ModelProto:
    """`scores = softmax(x @ W)`, or another graph that is not like it."""
    weights = weights.astype(helper.tensor_dtype_to_np_dtype(dtype))
    last = "mixed" if mixing else "sums"
    nodes = [helper.make_node("MatMul", [input_name, "W"], ["sums"])]
    if mixing:
        nodes.append(helper.make_node("ReduceMean", ["sums"], ["mean"], axes=[0], keepdims=1))
        nodes.append(helper.make_node("Sub", ["sums", "mean"], ["mixed"]))
    nodes.append(helper.make_node("Softmax", [last], [output_name], axis=-1))
    made = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(input_name, dtype, sizes)],
        [helper.make_tensor_value_info(output_name, dtype, [sizes[0], int(weights.shape[1])])],
        [numpy_helper.from_array(weights, "W")],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def outside_data() -> onnx.ModelProto:
    """A graph whose weights lie in a file of somebody else."""
    model = graph()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../secret"
    return model


def tree(folder: Path) -> dict[str, bytes | None]:
    """Name to content of everything below a folder; None for what is no plain file."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def drop(repository: Path) -> Callable[..., Path]:
    """`drop(model, "scores/9")`: a version folder with this ONNX model and nothing else."""

    def act(model: onnx.ModelProto | bytes | None = None, where: str = "scores/9", file: str = "model.onnx") -> Path:
        folder = repository / where
        folder.mkdir(parents=True)
        content = graph() if model is None else model
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
        return folder

    return act


def policy(repository: Path, model: str = "scores") -> tuple[int, ...]:
    return configs.versions_of(configs.read(config_path(repository, model)))


def is_a_version(done: Adopted, repository: Path) -> bool:
    """What a published version has is there, and holds."""
    manifest = manifests.read(done.folder)
    manifests.check_files(done.folder, manifest)
    assert {"card.md", "config.pbtxt", "evidence.json", "golden.npz"} <= set(manifest.files)
    assert configs.read(done.folder / "config.pbtxt").name == done.model
    assert configs.versions_of(configs.read(done.folder / "config.pbtxt")) == (done.version,)
    assert placed.ours(repository, done.model, done.version)
    assert drops.refusal(repository, done.model, done.version) is None
    assert verify(f"{done.model}/{done.version}", repository=repository)
    return True


# --- what holds ------------------------------------------------------------------------------------------------------


def test_a_bare_model_file_becomes_a_candidate_and_nothing_else_changes(repository, drop):
    before = tree(repository)
    folder = drop()
    done = adopt("scores/9", repository=repository)
    assert done.state == "candidate" and is_a_version(done, repository)
    after = tree(repository)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {
        "scores/9",
        *(
            f"scores/9/{n}"
            for n in ("model.onnx", "manifest.json", "evidence.json", "golden.npz", "card.md", "config.pbtxt")
        ),
    }
    assert (folder / "model.onnx").read_bytes() == graph().SerializeToString()


def test_the_evidence_of_a_bare_model_says_that_it_was_compared_with_itself(repository, drop):
    drop()
    done = adopt("scores/9", repository=repository)
    proof, golden = evidences.read(done.folder)
    assert "no source model" in proof.reference and proof.batch_proof.proved
    assert proof.tolerances["scores"].kind == "fixed"
    assert any("without a trained model" in note for note in done.notes)
    serving = evidences.read(repository / "scores" / "1")[1]
    assert np.array_equal(golden.inputs["x"], serving.inputs["x"]), "golden inputs are those of the serving version"
    wanted = np.exp(golden.inputs["x"] @ WEIGHTS)
    wanted /= wanted.sum(1, keepdims=True)
    assert np.allclose(golden.outputs["scores"], wanted, atol=1e-6)


def test_a_version_that_was_copied_with_all_its_files_keeps_its_evidence(repository):
    shutil.copytree(repository / "scores" / "2", repository / "scores" / "5")
    done = adopt("scores/5", repository=repository)
    assert is_a_version(done, repository)
    assert done.evidence.reference.startswith("pytorch")
    assert manifests.read(done.folder).facts["origin"] == "it was published as version 2 of 'scores'"
    assert (done.folder / "golden.npz").read_bytes() == (repository / "scores/2/golden.npz").read_bytes()


def test_a_version_may_come_under_another_models_name(repository):
    shutil.copytree(repository / "scores" / "2", repository / "renamed" / "4")
    done = adopt("renamed/4", repository=repository)
    assert is_a_version(done, repository) and policy(repository, "renamed") == ()
    assert configs.read(config_path(repository, "renamed")).name == "renamed"
    assert (repository / "renamed" / "scores_labels.txt").read_text() == "cat\ndog\n"


def test_a_restored_version_is_ours_again_and_its_files_are_as_they_were(repository):
    folder = repository / "scores" / "2"
    shutil.copytree(folder, repository.parent / "backup")
    shutil.rmtree(folder)
    shutil.copytree(repository.parent / "backup", folder)
    before = tree(folder)
    assert adopt("scores/2", repository=repository).state == "candidate"
    assert tree(folder) == before and placed.ours(repository, "scores", 2)


def test_adopting_twice_changes_nothing(repository, drop):
    folder = drop()
    adopt("scores/9", repository=repository)
    before = tree(folder)
    adopt("scores/9", repository=repository)
    assert tree(folder) == before


def test_what_a_killed_one_left_is_completed(repository, drop):
    folder = drop()
    adopt("scores/9", repository=repository)
    (folder / "manifest.json").unlink()
    assert is_a_version(adopt("scores/9", repository=repository), repository)
    for name in ("manifest.json", "evidence.json", "card.md"):
        (folder / name).unlink()
    assert is_a_version(adopt("scores/9", repository=repository), repository)


def test_a_torchscript_file_is_adopted_with_its_noise_as_tolerance(repository):
    (repository / "traced" / "6").mkdir()
    shutil.copy(repository / "traced/1/model.pt", repository / "traced/6")
    done = adopt("traced/6", repository=repository)
    assert is_a_version(done, repository) and done.evidence.tolerances["scores"].kind == "noise_floor"


def test_a_model_whose_configuration_has_no_batch_axis_may_mix_rows(repository):
    (repository / "mixing" / "6").mkdir()
    shutil.copy(repository / "mixing/1/model.pt", repository / "mixing/6")
    done = adopt("mixing/6", repository=repository)
    assert is_a_version(done, repository) and not done.evidence.batched


def test_a_model_file_may_have_another_name_when_the_configuration_says_so(repository, drop):
    drop(where="net/1", file="weights.onnx")
    config = configs.read(config_path(repository, "scores"))
    config.name, config.default_model_filename = "net", "weights.onnx"
    config.output[0].label_filename = ""
    config_path(repository, "net").write_text(configs.text(config))
    done = adopt("net/1", repository=repository, candidate=True)
    assert done.state == "candidate" and policy(repository, "net") == ()


KILLED = """
import os, signal, sys
from pathlib import Path
import modelport.commands.adopt as verb, modelport.convert.source_onnx, modelport.convert.format_onnx
repository = Path(sys.argv[1])
CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
seen = 0

def hook(event, args):
    global seen
    if event not in CHANGES or not str(args[0]).startswith(str(repository)):
        return
    if event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR):
        return
    seen += 1
    if seen == number:
        os.kill(os.getpid(), signal.SIGKILL)

for line in sys.stdin:
    number = int(line)
    child = os.fork()
    if child == 0:
        sys.addaudithook(hook)
        verb.adopt("scores/9", repository=repository)
        os._exit(seen)
    status = os.waitpid(child, 0)[1]
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


def test_a_kill_at_any_change_of_a_file_leaves_a_folder_that_is_adopted_next_time(repository, drop):
    """Killed before each change to the disk in turn: never half a version, and running it again succeeds."""
    folder = drop()
    before = tree(repository)
    command = [sys.executable, "-c", KILLED, str(repository)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def run(number: int) -> int:
            for name in set(tree(folder)) - {"model.onnx"}:
                (folder / name).unlink()
            assert tree(repository) == before
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        run(0)
        count = run(0)
        assert count > 10
        for number in range(1, count + 1):
            assert run(number) == -signal.SIGKILL
            left = tree(repository)
            assert {name: left[name] for name in before} == before
            if (folder / "manifest.json").exists():
                manifests.check_files(folder, manifests.read(folder))
            else:
                assert not placed.ours(repository, "scores", 9)
            assert is_a_version(adopt("scores/9", repository=repository), repository)


# --- a new model -----------------------------------------------------------------------------------------------------


def test_the_configuration_of_a_new_onnx_model_is_derived_from_its_graph(repository, drop):
    drop(where="fresh/3")
    done = adopt("fresh/3", repository=repository)
    assert is_a_version(done, repository) and done.state == "candidate"
    config = configs.read(config_path(repository, "fresh"))
    assert config.max_batch_size == 32 and config.backend == "onnxruntime" and policy(repository, "fresh") == ()
    assert [str(t) for t in (*done.spec.inputs, *done.spec.outputs)] == ["x: FP32[3]", "scores: FP32[2]"]


def test_a_new_model_that_mixes_rows_gets_no_batch_axis_and_the_reason(repository, drop):
    drop(graph(mixing=True), where="fresh/1")
    done = adopt("fresh/1", repository=repository)
    assert is_a_version(done, repository) and done.spec.max_batch_size == 0
    assert "no batch axis" in manifests.read(done.folder).note


@pytest.mark.parametrize("place", ["model", "version"])
def test_a_new_model_may_bring_its_configuration(repository, drop, place):
    folder = drop(where="fresh/1")
    config = configs.read(config_path(repository, "scores"))
    config.name, config.max_batch_size = "fresh", 5
    config.output[0].label_filename = ""
    target = folder if place == "version" else folder.parent
    (target / "config.pbtxt").write_text(configs.text(config))
    done = adopt("fresh/1", repository=repository, candidate=True)
    assert is_a_version(done, repository) and done.state == "candidate" and policy(repository, "fresh") == ()
    assert configs.read(config_path(repository, "fresh")).max_batch_size == 5


def test_a_new_torchscript_model_needs_a_configuration(repository):
    (repository / "fresh" / "1").mkdir(parents=True)
    shutil.copy(repository / "traced/1/model.pt", repository / "fresh/1")
    with pytest.raises(ManifestError, match=r"no config\.pbtxt") as caught:
        adopt("fresh/1", repository=repository)
    assert "tensors" in caught.value.why and not config_path(repository, "fresh").exists()


HOSTILE_SETTINGS = {
    "runtime": 'runtime: "evil.py"',
    "a library": 'model_operations { op_library_filename: "evil.so" }',
    "a warm-up file": 'model_warmup { name: "w" inputs { key: "x" value { input_data_file: "/etc/passwd" } } }',
    "an environment": 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "/tmp/env.tar.gz" } }',
    "an agent": 'model_repository_agents { agents { name: "checksum" } }',
    "an accelerator": 'optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }',
    "instances": "instance_group { count: 100000 }",
    "a path": 'default_model_filename: "../../other/1/model.onnx"',
    "a label path": 'output { name: "more" data_type: TYPE_FP32 dims: 1 label_filename: "../../../labels" }',
    "batches": "max_batch_size: 2000000000",
}


@pytest.mark.parametrize("what", HOSTILE_SETTINGS)
@pytest.mark.parametrize("place", ["of a new model", "of a version"])
def test_a_configuration_from_elsewhere_may_not_reach_further(repository, drop, place, what):
    folder = drop(where="fresh/1" if place == "of a new model" else "scores/9")
    config = configs.read(config_path(repository, "scores"))
    config.name = folder.parent.name
    config.output[0].label_filename = ""
    for field in ("default_model_filename", "max_batch_size"):
        config.ClearField(field)
    target = folder if place == "of a version" else folder.parent
    (target / "config.pbtxt").write_text(configs.text(config) + HOSTILE_SETTINGS[what])
    with pytest.raises(UnsafeSourceError, match="copied in may not have") as caught:
        adopt(f"{folder.parent.name}/{folder.name}", repository=repository)
    assert "--allow-code" in caught.value.fix


# --- refused ---------------------------------------------------------------------------------------------------------


def script(content: Any = None) -> bytes:
    file = io.BytesIO()
    torch.save({"weights": torch.zeros(3)} if content is None else content, file)
    return file.getvalue()


class Evil:
    """A pickle that would run a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/pwned-by-a-drop",)


def with_nan() -> onnx.ModelProto:
    return graph(weights=np.full((3, 2), np.nan, dtype=np.float32))


CONTENTS: dict[str, tuple[Any, type[ModelportError], str]] = {
    "empty": (b"", SourceFormatError, "empty"),
    "cut off": (lambda: graph().SerializeToString()[:-20], SourceFormatError, "cut off|no valid|readable"),
    "random bytes": (np.random.default_rng(0).bytes(5000), SourceFormatError, "no known kind"),
    "a pickle": (pickle.dumps(Evil()), UnsafeSourceError, "pickle"),
    "a state dict": (script, UnsafeSourceError, "pickle"),
    "weights outside": (outside_data, UnsafeSourceError, "plain name inside"),
    "another input": (lambda: graph(input_name="image"), RepositoryError, "expected are the inputs x.*image: FLOAT"),
    "another output": (lambda: graph(output_name="y"), RepositoryError, "expected are the outputs scores.*y: FLOAT"),
    "another type": (
        lambda: graph(dtype=TensorProto.DOUBLE),
        RepositoryError,
        r"x: FLOAT\[batch,3\]; the file has x: DOUBLE\[batch,3\]",
    ),
    "another size": (
        lambda: graph(sizes=("batch", 4), weights=np.ones((4, 2), dtype=np.float32)),
        RepositoryError,
        r"x: FLOAT\[batch,3\]; the file has x: FLOAT\[batch,4\]",
    ),
    "more outputs": (
        lambda: graph(weights=np.ones((3, 5), dtype=np.float32)),
        RepositoryError,
        r"scores: FLOAT\[batch,2\]; the file has scores: FLOAT\[batch,5\]",
    ),
    "a fixed batch": (lambda: graph(sizes=(1, 3)), RepositoryError, r"x: FLOAT\[batch,3\]; .* x: FLOAT\[1,3\]"),
    "mixed rows": (lambda: graph(mixing=True), BatchAxisError, "no batch axis"),
    "NaN": (with_nan, NotFiniteError, "NaN"),
}


@pytest.mark.parametrize("what", CONTENTS)
def test_a_model_file_that_does_not_hold_is_refused_with_the_reason(repository, drop, what):
    content, error, words = CONTENTS[what]
    folder = drop(content() if callable(content) else content)
    before = tree(repository)
    with pytest.raises(error, match=f"(?s){words}") as caught:
        adopt("scores/9", repository=repository)
    assert caught.value.what and caught.value.why and caught.value.fix
    assert tree(repository) == before, "nothing was written"
    assert " ".join(caught.value.what.split()) in drops.refusal(repository, "scores", 9)
    assert not placed.ours(repository, "scores", 9)
    assert not Path("/tmp/pwned-by-a-drop").exists()
    (folder / "model.onnx").write_bytes(graph().SerializeToString())
    assert adopt("scores/9", repository=repository).state == "candidate", "a good file in its place is adopted"


def test_a_pickle_in_the_place_of_a_torchscript_is_refused(repository, drop):
    drop(script(), where="traced/9", file="model.pt")
    with pytest.raises(UnsafeSourceError, match="pickle"):
        adopt("traced/9", repository=repository)
    assert drops.refusal(repository, "traced", 9)


def test_a_torchscript_with_other_arguments_is_refused(repository, drop, net):
    class Other(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image

    file = io.BytesIO()
    torch.jit.save(torch.jit.script(Other()), file)
    drop(file.getvalue(), where="traced/9", file="model.pt")
    with pytest.raises(RepositoryError, match="does not fit") as caught:
        adopt("traced/9", repository=repository)
    assert caught.value.why == "expected are the inputs x; its forward takes image"


def test_a_torchscript_that_gives_another_shape_is_refused(repository, drop):
    class Wider(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x, x], 1)

    file = io.BytesIO()
    torch.jit.save(torch.jit.script(Wider()), file)
    drop(file.getvalue(), where="traced/9", file="model.pt")
    with pytest.raises(RepositoryError, match="does not fit") as caught:
        adopt("traced/9", repository=repository)
    assert caught.value.why == "expected is the output scores: FP32[2]; the model gives scores: FP32[6]"


def test_a_model_of_another_kind_than_the_configuration_asks_for_is_refused(repository):
    (repository / "scores" / "9").mkdir()
    shutil.copy(repository / "traced/1/model.pt", repository / "scores/9/model.onnx")
    with pytest.raises(SourceFormatError, match="TorchScript"):
        adopt("scores/9", repository=repository)


def test_a_folder_without_the_model_file_is_refused_and_tells_what_is_there(repository, drop):
    drop(file="net.onnx")
    with pytest.raises(SourceFormatError, match=r"has no model\.onnx") as caught:
        adopt("scores/9", repository=repository)
    assert "net.onnx" in caught.value.why


@pytest.mark.parametrize("where", ["scores/9", "fresh/1"])
@pytest.mark.parametrize(("file", "words"), [("9/model.onnx", "one folder up"), ("net.h5", "modelport export net.h5")])
def test_a_nested_folder_and_the_file_of_a_training_job_are_told_what_to_do(repository, where, file, words):
    path = repository / where / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    with pytest.raises(SourceFormatError, match=r"has no model\.onnx") as caught:
        adopt(where, repository=repository)
    model, _, version = where.partition("/")
    assert words in caught.value.fix and words in drops.refusal(repository, model, int(version))


ENTRIES: dict[str, tuple[Callable[[Path], object], type[ModelportError], str]] = {
    "a symbolic link": (lambda f: (f / "data").symlink_to("/etc/passwd"), UnsafeSourceError, "symbolic link"),
    "a dangling link": (lambda f: (f / "data").symlink_to("nothing"), UnsafeSourceError, "symbolic link"),
    "a hard link": (lambda f: os.link(f / "model.onnx", f / "data"), UnsafeSourceError, "hard link"),
    "a pipe": (lambda f: os.mkfifo(f / "data"), UnsafeSourceError, "pipe"),
    "a library": (lambda f: (f / "libtriton_onnxruntime.so").touch(), UnsafeSourceError, "may not be in a version"),
    "a library of a version": (lambda f: (f / "libx.so.1").touch(), UnsafeSourceError, "may not be in a version"),
    "a stub": (lambda f: (f / "triton_python_backend_stub").touch(), UnsafeSourceError, "may not be in a version"),
    "code": (lambda f: (f / "model.py").touch(), UnsafeSourceError, "this is code"),
    "bytecode": (lambda f: (f / "__pycache__").mkdir(), UnsafeSourceError, "this is code"),
    "a hidden name": (lambda f: (f / "a\u202eb").touch(), UnsafeSourceError, "name cannot be used"),
    "a copy under way": (lambda f: (f / ".data.bin.Ab12Cd").touch(), RepositoryError, "still being copied"),
    "a download": (lambda f: (f / "sub").mkdir() or (f / "sub/data.part").touch(), RepositoryError, "being copied"),
    "a deep tree": (lambda f: (f / "/".join("d" * 20)).mkdir(parents=True), UnsafeSourceError, "too deep"),
    "a foreign manifest": (lambda f: (f / "manifest.json").write_text("{}"), ManifestError, "no readable manifest"),
    "a config.pbtxt": (lambda f: (f / "config.pbtxt").write_text("name: ?"), ManifestError, "cannot be read"),
}


@pytest.mark.parametrize("what", ENTRIES)
def test_what_may_not_lie_in_a_version_folder_is_refused(repository, drop, what):
    make, error, words = ENTRIES[what]
    folder = drop()
    make(folder)
    before = tree(repository)
    with pytest.raises(error, match=words) as caught:
        adopt("scores/9", repository=repository)
    assert tree(repository) == before and caught.value.why and caught.value.fix
    assert drops.refusal(repository, "scores", 9)


def test_a_version_folder_that_is_a_link_is_refused_and_not_followed(repository, drop, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.move(drop(), elsewhere)
    (repository / "scores" / "9").symlink_to(elsewhere)
    before = tree(elsewhere)
    with pytest.raises(UnsafeSourceError, match="this is a link"):
        adopt("scores/9", repository=repository)
    assert tree(elsewhere) == before and not list(repository.parent.glob("*.state/drops/scores/9.json"))


def copied(repository: Path) -> Path:
    return Path(shutil.copytree(repository / "scores" / "2", repository / "scores" / "9"))


def test_files_that_are_not_what_the_manifest_says_are_refused(repository):
    (copied(repository) / "model.onnx").write_bytes(graph().SerializeToString())
    with pytest.raises(ManifestError, match=r"model\.onnx was changed"):
        adopt("scores/9", repository=repository)


def test_a_model_that_does_not_answer_as_its_evidence_says_is_refused(repository):
    folder = copied(repository)
    (folder / "model.onnx").write_bytes(graph().SerializeToString())
    (folder / "manifest.json").unlink()
    with pytest.raises(VerificationError, match="largest error of 'scores'"):
        adopt("scores/9", repository=repository)


def broken_evidence(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def act(folder: Path) -> None:
        content = json.loads((folder / "evidence.json").read_text())
        change(content)
        (folder / "evidence.json").write_text(json.dumps(content))

    return act


EVIDENCE: dict[str, Callable[[Path], object]] = {
    "no JSON": lambda f: (f / "evidence.json").write_text("{"),
    "no tolerance": broken_evidence(lambda c: c["tolerances"].clear()),
    "an endless tolerance": broken_evidence(lambda c: c["tolerances"]["scores"].update(max_abs=float("inf"))),
    "no batch axis": broken_evidence(lambda c: c.update(batched=False)),
    "other arrays": lambda f: np.savez(f / "golden.npz", **{"input:y": np.ones((2, 3)), "output:scores": np.ones(2)}),
    "other shapes": lambda f: np.savez(
        f / "golden.npz", **{"input:x": np.ones((2, 4), "f4"), "output:scores": np.ones((2, 2), "f4")}
    ),
}


@pytest.mark.parametrize("what", EVIDENCE)
def test_evidence_that_is_not_this_models_is_refused(repository, what):
    folder = copied(repository)
    (folder / "manifest.json").unlink()
    EVIDENCE[what](folder)
    with pytest.raises(ManifestError, match="evidence") as caught:
        adopt("scores/9", repository=repository)
    assert caught.value.why and caught.value.fix


def test_a_version_that_changes_while_it_is_looked_at_is_not_adopted_and_not_refused(repository, drop):
    folder = drop()

    def meanwhile(step: str) -> None:
        if "running" in step:
            (folder / "more").write_text("still copying")

    with pytest.raises(RepositoryError, match="changed while"):
        adopt("scores/9", repository=repository, report=meanwhile)
    assert not (folder / "manifest.json").exists() and drops.refusal(repository, "scores", 9) is None


# --- names, policies, code -------------------------------------------------------------------------------------------


def test_a_version_must_be_named_and_there(repository):
    with pytest.raises(UsageError, match="names no version"):
        adopt("scores", repository=repository)
    with pytest.raises(VersionNotFoundError):
        adopt("scores/77", repository=repository)


def test_what_the_policy_names_stays_named_unless_it_is_to_be_a_candidate(repository, drop):
    drop()
    config, known = switch.read(repository, "scores")
    configs.set_versions(config, [1, 9])
    switch.write(repository, "scores", config, known)
    done = adopt("scores/9", repository=repository)
    assert done.state == "serving" and any("names version 9" in note for note in done.notes)
    assert adopt("scores/9", repository=repository, candidate=True).state == "serving", "it is a version already"
    (repository / "scores" / "9" / "manifest.json").unlink()
    done = adopt("scores/9", repository=repository, candidate=True)
    assert done.state == "candidate" and policy(repository) == (1,)


def test_one_that_the_policy_names_is_taken_out_before_anybody_has_looked_at_it(repository, drop):
    """Else a server that starts after it was refused would load it; an alias goes with it."""
    drop(b"no model")
    config, known = switch.read(repository, "scores")
    configs.set_versions(config, [1, 9])
    switch.write(repository, "scores", config, replace(known, aliases={"stable": 1, "wild": 9}))
    with pytest.raises(SourceFormatError):
        adopt("scores/9", repository=repository, candidate=True)
    assert policy(repository) == (1,) and switch.read(repository, "scores")[1].aliases == {"stable": 1}


def test_a_refused_one_does_not_serve_by_a_policy_that_means_the_newest(repository, drop):
    drop(b"no model")
    config, known = switch.read(repository, "scores")
    config.version_policy.latest.num_versions = 1
    switch.write(repository, "scores", config, known)
    with pytest.raises(SourceFormatError):
        adopt("scores/9", repository=repository)
    assert policy(repository) == (2,)


def test_a_policy_that_names_no_versions_is_made_to_name_those_that_are_loaded(repository, drop):
    drop()
    config, _ = switch.read(repository, "scores")
    config.version_policy.latest.num_versions = 1
    switch.write(repository, "scores", config, record.Record(tags={1: ("old",)}))
    assert adopt("scores/9", repository=repository).state == "candidate"
    assert policy(repository) == (2,) and switch.read(repository, "scores")[1].tags == {1: ("old",)}


def test_a_model_that_is_code_is_taken_only_when_its_user_says_so_and_with_evidence(repository):
    folder = repository / "echo" / "1"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text("raise SystemExit('this must not run here')")
    (folder / "config.pbtxt").write_text(
        'name: "echo" backend: "python" max_batch_size: 4 input { name: "x" data_type: TYPE_FP32 dims: 3 } '
        'output { name: "scores" data_type: TYPE_FP32 dims: 2 } instance_group { count: 1 }'
    )
    with pytest.raises(UnsafeSourceError, match="this is code"):
        adopt("echo/1", repository=repository)
    with pytest.raises(ManifestError, match="no evidence"):
        adopt("echo/1", repository=repository, allow_code=True)
    for name in ("evidence.json", "golden.npz"):
        shutil.copy(repository / "scores/1" / name, folder)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "model.cpython-311.pyc").write_bytes(b"left by whoever tried it")
    done = adopt("echo/1", repository=repository, allow_code=True)
    assert done.state == "candidate" and manifests.read(folder).format == "python"
    assert (folder / "__pycache__").is_file(), "Triton's stub writes no bytecode then, and the version stays as it is"
    assert adopt("echo/1", repository=repository, allow_code=True).version == 1
    with pytest.raises(UnsafeSourceError, match="this is code"):  # as modelport serve, which looked at it as well
        adopt("echo/1", repository=repository)
    assert drops.refusal(repository, "echo", 1) is None, "it is a version all the same"
    (folder / "model.py").write_text("raise SystemExit('and this is another one')")
    with pytest.raises(UnsafeSourceError, match="this is code"):
        adopt("echo/1", repository=repository)
    assert drops.refusal(repository, "echo", 1) is not None, "this is not what was vouched for"


def test_what_another_repository_was_asked_for_is_forgotten(repository):
    folder = copied(repository)
    manifest = manifests.read(folder)
    manifests.write(folder, manifests.Manifest(**{**vars(manifest), "asked": ("instance_group",)}))
    adopt("scores/9", repository=repository)
    assert manifests.read(folder).asked == ()


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_says_what_was_found_and_what_comes_next(repository, drop, capsys):
    drop()
    assert main(["adopt", "scores/9", "--repository", str(repository)]) == 0
    said = capsys.readouterr()
    assert "adopted scores version 9" in said.out and "no source model was given" in " ".join(said.out.split())
    assert "to let it serve: modelport promote scores 9" in said.out


def test_the_command_prints_json_for_scripts(repository, drop, capsys):
    drop()
    assert main(["adopt", "scores/9", "--repository", str(repository), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["model"], content["version"], content["state"]) == ("scores", 9, "candidate")
    assert content["evidence"]["batch_proof"]["proved"] is True


@pytest.mark.parametrize(("content", "code"), [(b"", 12), (pickle.dumps(Evil()), 11), (None, 30)])
def test_the_command_ends_with_the_code_of_the_error(repository, drop, capsys, content, code):
    drop(graph(input_name="image") if content is None else content)
    assert main(["adopt", "scores/9", "--repository", str(repository), "--json"]) == code
    said = capsys.readouterr()
    assert said.out == "" and "\n  why: " in said.err and "\n  do:  " in said.err and "Traceback" not in said.err
