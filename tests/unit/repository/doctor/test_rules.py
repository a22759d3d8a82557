"""Every rule has a repository in which it fires, at the right place, and one close to it in which it does not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelport.repository import journal, lock
from modelport.repository import manifest as manifests
from modelport.repository.doctor.registry import AREAS, RULES
from modelport.spec import ModelSpec, TensorSpec, dtype_of

POLICY = "version_policy { specific { versions: [ 1 ] } }"
GROUP = "instance_group { count: 2 kind: KIND_GPU }"
OUTPUT = 'output { name: "y" data_type: TYPE_FP32 dims: [ 3 ] }'
BATCHING = "dynamic_batching {\n  default_queue_policy { max_queue_size: 64 }\n}"
WARMUP = 'model_warmup { name: "w" batch_size: 1 inputs { key: "x" value { data_type: %s dims: 3 %s } } }\n'
CUDA = (
    "optimization { execution_accelerators { gpu_execution_accelerator [ {\n"
    '  name: "%s"\n  parameters { key: "%s" value: "1" }\n} ] } }\n'
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """What spoils the repository, and what is found then."""

    rule: str
    spoil: Callable[[Any], Any]
    severity: str
    path: str
    line: int | None = None
    fixable: bool = False
    target: str = "26.09"


def case(rule: str, severity: str, place: str, spoil: Callable[[Any], Any], *, fix: bool = False, **more: Any) -> Case:
    path, _, line = place.partition(":")
    return Case(
        rule=rule, spoil=spoil, severity=severity, path=path, line=int(line) if line else None, fixable=fix, **more
    )


def publish(repo: Any, version: str = "1") -> Path:
    """Give a version of net a manifest."""
    folder: Path = repo.net / version
    spec = ModelSpec(
        name="net",
        inputs=(TensorSpec(name="x", dtype=dtype_of("FP32"), dims=(3,)),),
        outputs=(TensorSpec(name="y", dtype=dtype_of("FP32"), dims=(3,)),),
        max_batch_size=8,
    )
    manifest = manifests.Manifest(
        spec=spec, version=int(version), format="onnx", backend="onnxruntime", framework="pytorch 2",
        created="2026-01-02T03:04:05+00:00", files=manifests.records(folder),
    )  # fmt: skip
    manifests.write(folder, manifest)
    return folder


def changed(repo: Any) -> None:
    with (publish(repo) / "model.onnx").open("ab") as file:
        file.write(b"\x00\x00")


def module(repo: Any) -> None:
    """Make net a model of the pytorch backend that is Python code."""
    (repo.net / "1" / "model.onnx").rename(repo.net / "1" / "model.py")
    repo.config(('backend: "onnxruntime"\n', ""), add='runtime: "model.py"\nbackend: "pytorch"\n')


def rename(repo: Any, name: str) -> None:
    repo.net.rename(repo.root / name)
    path = repo.root / name / "config.pbtxt"
    path.write_text(path.read_text().replace('"net"', f'"{name}"'))


def savedmodel(repo: Any) -> None:
    (repo.net / "1" / "model.onnx").unlink()
    (repo.net / "1" / "model.savedmodel").mkdir()
    repo.config(('backend: "onnxruntime"', 'platform: "tensorflow_savedmodel"'))


def big(repo: Any) -> None:
    with (repo.net / "1" / "model.onnx").open("r+b") as file:
        file.truncate(2**31)


def link(source: Path, target: Path | str) -> None:
    source.symlink_to(target)


def hard(repo: Any) -> None:
    os.link(repo.net / "1" / "model.onnx", repo.root.parent / "other.onnx")


def staging(repo: Any, age_s: float) -> Path:
    folder: Path = repo.state / "staging" / "net-0123"
    folder.mkdir(parents=True)
    os.utime(folder, (time.time() - age_s,) * 2)
    return folder


def note(repo: Any) -> None:
    repo.state.joinpath("journal").mkdir(parents=True)
    text = (repo.net / "config.pbtxt").read_text()
    killed = journal.Note(operation="promote", model="net", version=1, before={"config.pbtxt": text})
    with pytest.raises(KeyboardInterrupt), journal.noted(repo.root, killed):
        content = (repo.state / "journal" / "net.json").read_bytes()
        raise KeyboardInterrupt
    (repo.state / "journal" / "net.json").write_bytes(content)


def routed(repo: Any, target: str) -> None:
    path = repo.root / "net" / "config.pbtxt"
    path.write_text(f'# modelport: {{"route": {{"shares": [["{target}", 100]]}}}}\n' + path.read_text())


def aliased(repo: Any, version: int) -> None:
    path = repo.net / "config.pbtxt"
    path.write_text(f'# modelport: {{"aliases": {{"stable": {version}}}}}\n' + path.read_text())


def of(method: str) -> Callable[..., Callable[[Any], Any]]:
    """`of("config")(...)`: what calls the builder's method `config` with these arguments."""
    return lambda *args, **options: lambda repo: getattr(repo, method)(*args, **options)


config, onnx, file, pytorch, ensemble, model = map(of, ("config", "onnx", "file", "pytorch", "ensemble", "model"))
PARAMETER = 'parameters { key: "a" value { string_value: "%s" } }\n'
SERVED = ('backend: "onnxruntime"', 'backend: "python"')

FIRES = [
    # The repository and names
    case("repository-path", "error", ".", lambda r: setattr(r, "root", r.root.rename(r.root.with_name("a b")))),
    case("root-folder", "error", ".git", file(".git/HEAD")),
    case("root-folder", "error", ".ipynb_checkpoints", file(".ipynb_checkpoints/a"), fix=True),
    case("root-folder", "error", "notes", lambda r: (r.root / "notes").mkdir(), fix=True),
    case(
        "root-folder",
        "error",
        "common",
        lambda r: (r.file("common/env.tar"), r.config(add=PARAMETER % "/m/common/env.tar")),
    ),
    case("model-name", "error", "a;id", lambda r: rename(r, "a;id")),
    case("model-name", "error", "net.trial", lambda r: rename(r, "net.trial")),
    case("link-dangling", "error", "gone", lambda r: link(r.root / "gone", "/nowhere"), fix=True),
    case("link-dangling", "error", "net/2", lambda r: link(r.net / "2", "/nowhere"), fix=True),
    # config.pbtxt and the backend
    case("config-missing", "warning", "net/config.pbtxt", lambda r: (r.net / "config.pbtxt").unlink()),
    case("config-unreadable", "error", "net/config.pbtxt:18", config((POLICY, "version_policy: latest"))),
    case("config-unreadable", "error", "net/config.pbtxt", file("net/config.pbtxt", b"\xff")),
    case("config-unreadable", "error", "net/config.pbtxt:19", config(add='name: "net"\n')),
    case(
        "config-target",
        "error",
        "net/config.pbtxt:19",
        config(add='model_metrics { metric_control { metric_identifier { family: "a" } } }\n'),
        target="24.10",
    ),
    case("config-name", "error", "net/config.pbtxt:2", config(('"net"', '"other"')), fix=True),
    case("backend-missing", "warning", "net/config.pbtxt", config(('backend: "onnxruntime"\n', "")), fix=True),
    case("backend-absent", "warning", "net/config.pbtxt:3", config(("onnxruntime", "mine"))),
    case("backend-absent", "error", "net/config.pbtxt:3", savedmodel),
    case("backend-embedded", "note", "net/config.pbtxt:3", savedmodel, target="24.10"),
    case("platform-mismatch", "error", "net/config.pbtxt:19", config(add='platform: "pytorch_libtorch"\n')),
    case("runtime-set", "warning", "net/config.pbtxt:19", config(add='runtime: "model.py"\n'), fix=True),
    case("runtime-set", "note", "net/config.pbtxt:18", lambda r: module(r)),
    # Version folders and the version policy
    case("version-overflow", "error", f"net/{'9' * 20}", lambda r: (r.net / ("9" * 20)).mkdir(), fix=True),
    case("version-prefix", "warning", "net/3.tmp", lambda r: (r.net / "3.tmp").mkdir(), fix=True),
    case(
        "version-prefix",
        "error",
        "net/3.tmp",
        lambda r: (r.config((POLICY, "version_policy { all { } }")), (r.net / "3.tmp").mkdir()),
        fix=True,
    ),
    case("version-negative", "warning", "net/-1", lambda r: (r.net / "-1").mkdir(), fix=True),
    case("version-leading-zero", "warning", "net/003", lambda r: (r.net / "003").mkdir()),
    case("version-range", "warning", "net/0", lambda r: (r.net / "0").mkdir()),
    case("version-range", "warning", "net/4294967296", lambda r: (r.net / "4294967296").mkdir()),
    case("version-word", "warning", "net/backup", lambda r: (r.net / "backup").mkdir(), fix=True),
    case("version-word", "note", "net/src", lambda r: (r.config(SERVED), (r.net / "src").mkdir())),
    case(
        "version-word",
        "note",
        "net/tokenizer",
        lambda r: (r.config(add=PARAMETER % "/m/net/tokenizer/x"), (r.net / "tokenizer").mkdir()),
    ),
    case("policy-missing", "warning", "net/config.pbtxt", lambda r: (r.config((POLICY, "")), publish(r)), fix=True),
    case("policy-missing", "note", "net/config.pbtxt", config((POLICY, ""))),
    case(
        "policy-floating",
        "warning",
        "net/config.pbtxt:18",
        lambda r: (r.config((POLICY, "version_policy { latest { num_versions: 1 } }")), publish(r)),
        fix=True,
    ),
    case("policy-floating", "note", "net/config.pbtxt:18", config((POLICY, "version_policy { all { } }"))),
    case("policy-absent-version", "error", "net/config.pbtxt:18", config(("[ 1 ] } }", "1 versions: 7 } }")), fix=True),
    case("versions-none", "warning", "empty", model("empty", versions=())),
    case("versions-unselected", "warning", "net/config.pbtxt:18", config(("[ 1 ] } }", "[ ] } }"))),
    case(
        "versions-unselected",
        "warning",
        "net/config.pbtxt:18",
        config((POLICY, "version_policy { latest { } }")),
    ),
    # Inputs and outputs
    case("tensors-missing", "warning", "net/config.pbtxt", config((OUTPUT, ""))),
    case("tensors-missing", "error", "net/config.pbtxt", config((OUTPUT, ""), ("onnxruntime", "pytorch"))),
    case("tensors-missing", "note", "net/config.pbtxt", config((OUTPUT, ""), ("onnxruntime", "vllm"))),
    case("tensor-invalid", "error", "net/config.pbtxt:9", config(("    dims: [ 3 ]", "    dims: [ 0 ]"))),
    case("tensor-invalid", "error", "net/config.pbtxt:12", config((" data_type: TYPE_FP32 dims", " dims"))),
    case(
        "tensor-invalid",
        "error",
        "net/config.pbtxt:9",
        config(("    dims: [ 3 ]", "    dims: [ 3 ] reshape { shape: [ 4 ] }")),
    ),
    case(
        "scalar-reshape",
        "error",
        "net/config.pbtxt:12",
        lambda r: (r.config(("dims: [ 3 ]", "")), r.onnx(shape=["batch"])),
        fix=True,
    ),
    case(
        "scalar-reshape",
        "error",
        "net/config.pbtxt:12",
        lambda r: (
            r.config(("dims: [ 3 ] }", "dims: 1 reshape { } }"), ("dims: [ 3 ]", "dims: 1"), ("size: 8", "size: 0")),
            r.onnx(shape=[]),
        ),
        fix=True,
    ),
    case("scalar-reshape", "error", "net/config.pbtxt:12", config(("dims: [ 3 ] }", "}"))),
    case("batch-size", "error", "net/config.pbtxt:4", config(("size: 8", "size: -1"))),
    # Instances, batches, queues, cache, warm-up
    case("instances-missing", "warning", "net/config.pbtxt", config((GROUP, "")), fix=True),
    case("instances-missing", "warning", "net/config.pbtxt", config((GROUP, ""), ("onnxruntime", "openvino"))),
    case("instances-invalid", "error", "net/config.pbtxt:13", config(("KIND_GPU", "KIND_CPU gpus: 0"))),
    case("instances-gpu-only", "note", "net/config.pbtxt:13", lambda r: None),
    case(
        "instances-threads",
        "note",
        "net/config.pbtxt:13",
        config(("count: 2 kind: KIND_GPU", "count: 4 kind: KIND_CPU"), ('"1"', '"4096"')),
    ),
    case(
        "batch-preferred",
        "error",
        "net/config.pbtxt:16",
        config(("  default_queue", "  preferred_batch_size: [ 4, 16 ]\n  default_queue")),
        fix=True,
    ),
    case(
        "batch-pointless",
        "warning",
        "net/config.pbtxt:15",
        config((BATCHING, "dynamic_batching { }"), ("size: 8", "size: 0"), ("[ 3 ]", "[ -1, 3 ]")),
    ),
    case("batch-implicit", "note", "net/config.pbtxt:4", config((BATCHING, ""))),
    case(
        "queue-invalid",
        "error",
        "net/config.pbtxt:15",
        config(("  default_queue", "  priority_levels: 2 default_priority_level: 3\n  default_queue")),
    ),
    case(
        "queue-invalid",
        "error",
        "net/config.pbtxt:15",
        config(
            ("  default_queue", "  preserve_ordering: true priority_levels: 2 default_priority_level: 1 default_queue")
        ),
    ),
    case("queue-unlimited", "note", "net/config.pbtxt:15", config(("size: 64", "size: 0"))),
    case("queue-stalls", "warning", "net/config.pbtxt:15", config(("count: 2", "count: 1"))),
    case(
        "queue-stalls",
        "warning",
        "net/config.pbtxt:15",
        config(("count: 2", "count: 1"), ("max_queue_size: 64", "default_timeout_microseconds: 1000")),
    ),
    case(
        "response-cache",
        "warning",
        "net/config.pbtxt:19",
        config(("    dims: [ 3 ]", "    dims: [ -1 ]"), add="response_cache { enable: true }\n"),
    ),
    case("response-cache", "note", "net/config.pbtxt:19", config(add="response_cache { enable: true }\n")),
    case(
        "response-cache",
        "warning",
        "net/config.pbtxt:19",
        config(add="response_cache { enable: true }\n"),
        target="24.10",
    ),
    case(
        "response-cache",
        "error",
        "net/config.pbtxt:19",
        config(add="response_cache { enable: true }\nmodel_transaction_policy { decoupled: true }\n"),
    ),
    case(
        "embedded-unserved",
        "note",
        "net/config.pbtxt:15",
        config((BATCHING, "sequence_batching { }\n")),
    ),
    case(
        "embedded-unserved",
        "note",
        "net/config.pbtxt:8",
        config(("TYPE_FP32\n", "TYPE_FP32 allow_ragged_batch: true\n")),
    ),
    case(
        "warmup-random",
        "warning",
        "net/config.pbtxt:19",
        config(add=WARMUP % ("TYPE_INT64", "random_data: true")),
    ),
    case(
        "warmup-file",
        "error",
        "net/config.pbtxt:19",
        config(add=WARMUP % ("TYPE_FP32", 'input_data_file: "x.bin"')),
    ),
    # Execution accelerators
    case("cuda-ignored", "warning", "net/config.pbtxt:21", config(add=CUDA % ("cuda", "gpu_mem_limit"))),
    case("accelerator-unknown", "error", "net/config.pbtxt:19", config(add=CUDA % ("cudnn", "a"))),
    # Files
    case("artefact-missing", "error", "net/1/model.onnx", lambda r: (r.net / "1" / "model.onnx").unlink()),
    case("artefact-missing", "warning", "net/2/model.onnx", lambda r: (r.net / "2").mkdir()),
    case(
        "file-outside",
        "error",
        "net/config.pbtxt:19",
        config(add='default_model_filename: "../../x.onnx"\n'),
    ),
    case(
        "file-outside",
        "error",
        "net/config.pbtxt:12",
        config(("dims: [ 3 ] }", 'dims: 3 label_filename: "/etc/hosts" }')),
    ),
    case("artefact-format", "error", "net/1/model.onnx", file("net/1/model.onnx", b"PK\x03\x04 no model")),
    case("artefact-format", "error", "net/1/model.onnx", file("net/1/model.onnx", "version https://git-lfs")),
    case("file-too-large", "error", "net/1/model.onnx", big),
    case(
        "labels-missing", "error", "net/config.pbtxt:12", config(("dims: [ 3 ] }", 'dims: 3 label_filename: "a.txt" }'))
    ),
    case("stub-file", "error", "net/triton_python_backend_stub", file("net/triton_python_backend_stub")),
    case("stub-file", "error", "net/1/triton_python_backend_stub", file("net/1/triton_python_backend_stub")),
    case(
        "stub-file",
        "warning",
        "net/triton_python_backend_stub",
        lambda r: (r.config(SERVED), r.file("net/triton_python_backend_stub")),
    ),
    case("backend-library", "warning", "net/libtriton_mine.so", file("net/libtriton_mine.so")),
    case(
        "backend-library",
        "note",
        "net/libtriton_mine.so",
        lambda r: (r.config(("onnxruntime", "mine")), r.file("net/libtriton_mine.so")),
    ),
    case("link", "warning", "net/2", lambda r: link(r.net / "2", r.net / "1")),
    case("link", "warning", "net/1/a", lambda r: link(r.net / "1" / "a", "model.onnx")),
    case("link", "warning", "copy", lambda r: link(r.root / "copy", r.net)),
    case("hard-link", "warning", "net/1/model.onnx", hard),
    case("stray-file", "warning", "net/README.md", file("net/README.md"), fix=True),
    case("stray-file", "warning", "net/1/notes.txt", file("net/1/notes.txt"), fix=True),
    case(
        "stray-file",
        "warning",
        "net/.config.pbtxt.swp",
        lambda r: (r.config(SERVED), r.file("net/.config.pbtxt.swp")),
        fix=True,
    ),
    # ONNX files
    case("onnx-opset", "error", "net/1/model.onnx", onnx(opset=22), target="24.10"),
    case("onnx-opset", "error", "net/1/model.onnx", onnx(opset=27)),
    case("onnx-opset", "error", "net/1/model.onnx", onnx(domains={"ai.onnx.ml": 6})),
    case("onnx-ir", "error", "net/1/model.onnx", onnx(ir=11), target="24.10"),
    case("onnx-custom-operators", "warning", "net/1/model.onnx", onnx(domains={"com.example": 1})),
    case("onnx-custom-operators", "warning", "net/1/model.onnx", onnx(domains={"ai.onnx.contrib": 1})),
    case("onnx-tensors", "error", "net/config.pbtxt:7", config(('    name: "x"', '    name: "image"'))),
    case("onnx-tensors", "error", "net/config.pbtxt:6", config(('    name: "x"', '    name: "image"'))),
    case("onnx-tensors", "error", "net/config.pbtxt:9", config(("    dims: [ 3 ]", "    dims: [ 4 ]"))),
    case(
        "onnx-tensors",
        "error",
        "net/config.pbtxt:12",
        config(("data_type: TYPE_FP32 dims", "data_type: TYPE_INT32 dims")),
    ),
    case(
        "onnx-tensors", "error", "net/config.pbtxt:9", lambda r: (r.config(("[ 3 ]", "[ 1 ]")), r.onnx(shape=["batch"]))
    ),
    case("onnx-tensors", "error", "net/config.pbtxt:9", onnx(shape=[])),
    case("onnx-tensors", "error", "net/config.pbtxt:9", config(("[ 3 ]\n", "[ 3 ] optional: true\n"))),
    case("onnx-tensors", "error", "net/config.pbtxt:9", config(("[ 3 ]\n", "-1 allow_ragged_batch: true\n"))),
    case("onnx-batch-axis", "error", "net/config.pbtxt:6", onnx(shape=[1, 3])),
    case("onnx-batch-axis", "error", "net/config.pbtxt:4", lambda r: (r.config((OUTPUT, "")), r.onnx(shape=[1, 3]))),
    case("onnx-external-data", "error", "net/1/model.onnx", onnx(location="weights.bin")),
    case("onnx-external-data", "error", "net/1/model.onnx", onnx(location="../weights.bin")),
    # TorchScript files
    case("torchscript-inputs", "error", "net/config.pbtxt:5", pytorch(inputs=("first", "other"))),
    case("torchscript-inputs", "error", "net/config.pbtxt:5", pytorch(inputs=("first",) * 3)),
    case("torchscript-inputs", "error", "net/config.pbtxt:5", pytorch(inputs=("a__0", "b__2"))),
    case("torchscript-types", "error", "net/config.pbtxt:5", pytorch(dtype="TYPE_UINT32")),
    case("torchscript-types", "error", "net/config.pbtxt:5", pytorch(dtype="TYPE_STRING")),
    # Ensembles
    case("ensemble-invalid", "error", "flow/config.pbtxt:11", ensemble(more=GROUP)),
    case("ensemble-model", "error", "flow/config.pbtxt:7", ensemble(step="missing")),
    case("ensemble-model", "error", "flow/config.pbtxt:7", ensemble(version=5)),
    case("ensemble-tensor", "error", "flow/config.pbtxt:7", ensemble(key="z")),
    case("ensemble-tensor", "error", "flow/config.pbtxt:5", ensemble(output="c")),
    case("ensemble-batch", "error", "flow/config.pbtxt:3", ensemble(batch=9)),
    case("ensemble-queue-hangs", "warning", "flow/config.pbtxt:7", ensemble(), target="24.10"),
    case(
        "ensemble-queue-unlimited",
        "note",
        "flow/config.pbtxt:7",
        lambda r: (r.ensemble(), r.config(("size: 64", "size: 0"))),
    ),
    # Manifests, the record, the state folder
    case("manifest-changed", "error", "net/1", changed),
    case("manifest-unreadable", "error", "net/1/manifest.json", file("net/1/manifest.json", "{")),
    case("manifest-missing", "warning", "other/1", lambda r: (publish(r), r.model("other"))),
    case("record", "error", "net/config.pbtxt:1", lambda r: aliased(r, 2)),
    case("record", "error", "net/config.pbtxt:1", lambda r: routed(r, "2")),
    case("record", "error", "net/config.pbtxt:1", lambda r: routed(r, "best")),
    case("record", "error", "net/config.pbtxt:19", config(add="# modelport: {\n")),
    case("staging-left", "warning", "../model_repository.state/staging/net-0123", lambda r: staging(r, 600), fix=True),
    case("journal-left", "warning", "../model_repository.state/journal/net.json", note, fix=True),
]


def held_note(repo: Any) -> None:
    """The operation runs: somebody holds the model's lock, for as long as this process lives."""
    note(repo)
    holder = lock.model(repo.root, "net")
    holder.__enter__()
    repo.holder = holder


def owned_staging(repo: Any) -> None:
    import fcntl

    repo.owner = os.open(staging(repo, 600), os.O_RDONLY)
    fcntl.flock(repo.owner, fcntl.LOCK_EX)


# What looks like it and is right.
SILENT: dict[str, list[Callable[[Any], Any]]] = {
    "repository-path": [lambda r: setattr(r, "root", r.root.rename(r.root.with_name("a-b_c.d")))],
    "root-folder": [file("README.md"), model("bare", config=None)],
    "model-name": [lambda r: rename(r, "a-b_c.D0")],
    "link-dangling": [lambda r: link(r.root / "copy", r.net), lambda r: link(r.net / "1" / "a", "/nowhere")],
    "config-missing": [file("net/config.pbtxt", "{")],
    "config-unreadable": [config(add="# }\n"), config(add="metric_tags { key: 'a' value: '}' }\n")],
    "config-target": [config(add="model_metrics { }\n")],
    "config-name": [config(('name: "net"\n', ""))],
    "backend-missing": [config(('backend: "onnxruntime"', 'platform: "onnxruntime_onnx"'))],
    "backend-absent": [
        lambda r: (r.config(("onnxruntime", "mine")), r.file("net/libtriton_mine.so")),
        config(("onnxruntime", "vllm")),
    ],
    "backend-embedded": [config(SERVED)],
    "platform-mismatch": [
        config(add='platform: "onnxruntime_onnx"\n'),
        config(("onnxruntime", "mine"), add='platform: "x"\n'),
    ],
    "runtime-set": [config(add='# runtime: "model.py"\n')],
    "version-overflow": [lambda r: (r.net / str(2**63 - 1)).mkdir(), file("net/" + "9" * 20)],
    "version-prefix": [lambda r: (r.net / "tmp.3").mkdir(), file("net/3.tmp")],
    "version-negative": [lambda r: (r.net / "v-1").mkdir()],
    "version-leading-zero": [lambda r: (r.net / "0").mkdir()],
    "version-range": [model("net", versions=("2147483647",))],
    "version-word": [lambda r: [(r.net / name).mkdir() for name in ("warmup", "initial_state", "configs")]],
    "policy-missing": [config((POLICY, "version_policy { all { } }"))],
    "policy-floating": [config((POLICY, ""))],
    "policy-absent-version": [model("empty", versions=())],
    "versions-none": [lambda r: (r.net / "1").rename(r.net / "0")],
    "versions-unselected": [model("empty", versions=())],
    "tensors-missing": [lambda r: (r.net / "config.pbtxt").unlink()],
    "tensor-invalid": [
        config(("    dims: [ 3 ]", "    dims: [ -1, 2, 3 ] reshape { shape: [ -1, 6 ] }")),
    ],
    "scalar-reshape": [config(("    dims: [ 3 ]", "    dims: 1 reshape { shape: [ ] }"))],
    "batch-size": [config(("size: 8", "size: 0"))],
    "instances-missing": [ensemble()],
    "instances-invalid": [config(("KIND_GPU", "KIND_GPU gpus: 0"))],
    "instances-gpu-only": [config(("KIND_GPU", "KIND_AUTO")), config(("onnxruntime", "tensorrt"))],
    "instances-threads": [
        config(("KIND_GPU", "KIND_CPU")),
        config(("count: 2 kind: KIND_GPU", "count: 64 kind: KIND_GPU")),
    ],
    "batch-preferred": [config(("  default_queue", "  preferred_batch_size: [ 1, 8 ] default_queue"))],
    "batch-pointless": [config((BATCHING, ""), ("size: 8", "size: 0"))],
    "batch-implicit": [config((BATCHING, ""), ("size: 8", "size: 1"))],
    "queue-invalid": [config(("  default_queue", "  priority_levels: 2 default_priority_level: 1 default_queue"))],
    "queue-unlimited": [config((BATCHING, ""))],
    "queue-stalls": [
        config(("count: 2", "count: 1"), (BATCHING, "")),
        config(("size: 64", "size: 0")),
        config(("count: 2 kind: KIND_GPU", "count: 1 kind: KIND_GPU gpus: [ 0, 1 ]")),
    ],
    "response-cache": [config(add="response_cache { enable: false }\n")],
    "embedded-unserved": [
        config(SERVED, add="model_transaction_policy { decoupled: true }\n"),
        config(add="model_transaction_policy { decoupled: false }\n"),
    ],
    "warmup-random": [
        config(add=WARMUP % ("TYPE_FP32", "random_data: true")),
        config(add=WARMUP % ("TYPE_UINT8", "random_data: true")),
        config(add=WARMUP % ("TYPE_INT64", "zero_data: true")),
    ],
    "warmup-file": [
        lambda r: (r.config(add=WARMUP % ("TYPE_FP32", 'input_data_file: "x.bin"')), r.file("net/warmup/x.bin"))
    ],
    "cuda-ignored": [
        config(add=CUDA % ("cuda", "cudnn_conv_use_max_workspace")),
        config(add=CUDA % ("tensorrt", "gpu_mem_limit")),
        config(add='parameters { key: "gpu_mem_limit" value { string_value: "1" } }\n'),
    ],
    "accelerator-unknown": [config(SERVED, add=CUDA % ("cudnn", "a"))],
    "artefact-missing": [
        config(SERVED, add='default_model_filename: "model.onnx"\n'),
        lambda r: ((r.net / "1/model.onnx").rename(r.net / "1/a"), r.config(add='default_model_filename: "a"\n')),
        lambda r: (
            (r.net / "1/model.onnx").rename(r.net / "1/a"),
            (r.net / "1/model.onnx").mkdir(),
            (r.net / "1/a").rename(r.net / "1/model.onnx/model.onnx"),
        ),
    ],
    "file-outside": [config(add='default_model_filename: "a/b..onnx"\n')],
    "artefact-format": [pytorch(), lambda r: (r.net / "1" / "model.onnx").unlink()],
    "file-too-large": [file("net/1/model.onnx", "x")],
    "labels-missing": [
        lambda r: (r.config(("dims: [ 3 ] }", 'dims: 3 label_filename: "a.txt" }')), r.file("net/a.txt"))
    ],
    "stub-file": [file("net/1/data/triton_python_backend_stub")],
    "backend-library": [file("net/libother.so")],
    "link": [lambda r: link(r.root / "README.md", "config.txt")],
    "hard-link": [file("net/1/copy.onnx")],
    "stray-file": [
        lambda r: (r.config(("dims: [ 3 ] }", 'dims: 3 label_filename: "a.txt" }')), r.file("net/a.txt")),
        lambda r: (r.config(SERVED), r.file("net/helper.py"), r.file("net/1/vocab.txt")),
        lambda r: (r.config(add=PARAMETER % "/m/e.tar"), r.file("net/e.tar")),
        lambda r: (r.ensemble(), r.file("flow/1/.gitkeep"), r.file("flow/1/.tmp", ""), r.file("net/1/model.onnx.dvc")),
        lambda r: (module(r), r.file("net/1/model.pt")),
        lambda r: (r.onnx(location="weights.bin"), r.file("net/1/weights.bin")),
        lambda r: (r.config(add='model_operations { op_library_filename: "ops.so" }\n'), r.file("net/1/ops.so")),
        publish,
    ],
    "onnx-opset": [onnx(opset=26, domains={"ai.onnx.ml": 5}), onnx(domains={"com.microsoft": 99})],
    "onnx-ir": [onnx(ir=13)],
    "onnx-custom-operators": [onnx(domains={"com.microsoft.nchwc": 1, "ai.onnx.training": 1, "pkg.torch": 1})],
    "onnx-tensors": [
        config(("    dims: [ 3 ]", "    dims: [ 1, 3 ] reshape { shape: [ 3 ] }")),
        lambda r: (r.config(("[ 3 ]", "1 reshape { }")), r.onnx(shape=["batch"])),
        lambda r: (r.config(("size: 8", "size: 0"), ("[ 3 ]", "1"), (BATCHING, "")), r.onnx(shape=[])),
        lambda r: (r.onnx(shape=["batch", "n"]), r.config(("dims: [ 3 ] }", "dims: -1 }"))),
        onnx(shape=None),
    ],
    "onnx-batch-axis": [
        lambda r: (r.config(("size: 8", "size: 0"), ("[ 3 ]", "[ 1, 3 ]"), (BATCHING, "")), r.onnx(shape=[1, 3]))
    ],
    "onnx-external-data": [lambda r: (r.onnx(location="a/weights.bin"), r.file("net/1/a/weights.bin"))],
    "torchscript-inputs": [
        pytorch(),
        pytorch(inputs=("second", "first")),
        pytorch(inputs=("b__1", "a__0")),
    ],
    "torchscript-types": [pytorch()],
    "ensemble-invalid": [ensemble()],
    "ensemble-model": [ensemble()],
    "ensemble-tensor": [ensemble()],
    "ensemble-batch": [ensemble(), lambda r: (r.ensemble(), r.config(("size: 8", "size: 0")))],
    "ensemble-queue-hangs": [ensemble()],
    "ensemble-queue-unlimited": [ensemble()],
    "manifest-changed": [publish],
    "manifest-unreadable": [publish],
    "manifest-missing": [model("other")],
    "record": [lambda r: aliased(r, 1), lambda r: routed(r, "1")],
    "staging-left": [lambda r: staging(r, 0), owned_staging],
    "journal-left": [held_note],
}


def name_of(case: Case) -> str:
    return f"{case.rule} {case.severity} {case.path}"


@pytest.mark.parametrize("case", FIRES, ids=name_of)
def test_a_rule_that_is_broken_is_reported_with_its_place(repo, look, case):
    case.spoil(repo)
    found = [finding for finding in look(repo, case.target) if finding.rule == case.rule]
    assert (case.severity, case.path, case.line, case.fixable) in [
        (f.severity, str(f.path), f.line, f.fixable) for f in found
    ], found
    for finding in found:
        assert finding.what and finding.why and finding.fix
        model = finding.path.parts[0] if finding.path.parts[:1] and finding.path.parts[0] != ".." else ""
        assert finding.model in ("", model)


@pytest.mark.parametrize(
    ("rule", "index"), [(rule, index) for rule, makers in SILENT.items() for index in range(len(makers))]
)
def test_what_only_looks_like_it_is_not_reported(repo, look, rule, index):
    SILENT[rule][index](repo)
    assert [f for f in look(repo) if f.rule == rule] == []


def test_every_rule_has_a_case_in_which_it_fires_and_one_in_which_it_does_not():
    assert {case.rule for case in FIRES} == set(RULES) == set(SILENT)


def test_a_repository_that_is_right_gives_one_note(repo, look):
    """For both targets: what the other tests spoil is in order before."""
    for target in ("24.10", "26.09"):
        assert [f.rule for f in look(repo, target)] == ["instances-gpu-only"]


def test_every_rule_says_what_why_and_what_to_do():
    for area in AREAS:
        for rule in area.rules:
            assert rule.title and rule.why and rule.fix
            assert not rule.title.endswith(".") and not rule.why.endswith(".") and not rule.fix.endswith(".")
    assert len(RULES) == sum(len(area.rules) for area in AREAS), "two rules have one name"


@pytest.mark.parametrize("case", [case for case in FIRES if case.fixable], ids=name_of)
def test_what_can_be_repaired_is_and_the_next_look_finds_nothing_to_repair(repo, look, fix, case):
    case.spoil(repo)
    before = {f.rule for f in look(repo, case.target) if not f.fixable}
    assert fix(repo, target=case.target)
    after = look(repo, case.target)
    assert [f for f in after if f.fixable] == [] and case.rule not in {f.rule for f in after}
    assert {f.rule for f in after if f.severity == "error"} <= before, "a repair made something else wrong"
    assert fix(repo, target=case.target) == []


def test_every_rule_that_is_repaired_is_tried():
    assert {case.rule for case in FIRES if case.fixable} == {rule.id for rule in RULES.values() if rule.repair}


def test_looking_changes_nothing(repo, look):
    """Not even locks are made; a state folder does not come into being."""
    first = {case.rule: case for case in reversed(FIRES)}
    for rule in ("stray-file", "link-dangling", "onnx-opset", "instances-missing"):
        first[rule].spoil(repo)
    before = repo.bytes()
    look(repo)
    assert repo.bytes() == before and not repo.state.exists()


GIVEN = [
    'sequence_batching { control_input { name: "s" control { kind: CONTROL_SEQUENCE_READY } } }',
    'sequence_batching { state { input_name: "s" output_name: "t" data_type: TYPE_FP32 dims: 3 } }',
    'batch_input { kind: BATCH_ELEMENT_COUNT target_name: "s" data_type: TYPE_FP32 source_input: "x" }',
]


@pytest.mark.parametrize("made", GIVEN)
def test_an_input_that_triton_makes_is_not_missed(repo, look, made):
    """A sequence's controls and states, and counts over a batch: no caller sends them, no `input` names them."""
    add_input(repo.net / "1" / "model.onnx", "s")
    repo.config((BATCHING, ""), add=made)
    assert [f for f in look(repo) if f.rule.startswith("onnx")] == []
    repo.config((made, ""))
    assert [f.rule for f in look(repo) if f.rule.startswith("onnx")] == ["onnx-tensors"]


def test_a_ragged_input_is_one_row_of_all_in_the_file(repo, look):
    repo.onnx(shape=["n"])
    repo.config(
        ("    dims: [ 3 ]", "    dims: -1 allow_ragged_batch: true"),
        (OUTPUT, 'output { name: "y" data_type: TYPE_FP32 dims: 5 }'),
        add='batch_output { target_name: "y" kind: BATCH_SCATTER_WITH_INPUT_SHAPE source_input: "x" }\n',
    )
    assert [f for f in look(repo) if f.rule.startswith("onnx")] == []


def add_input(path: Path, name: str) -> None:
    import onnx as package

    made = package.load(path)
    made.graph.input.add().CopyFrom(made.graph.input[0])
    made.graph.input[1].name = name
    package.save(made, path)
