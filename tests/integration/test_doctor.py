"""What the doctor calls an error the real server refuses, and what it does not call one the server takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import pytest
from onnx import helper

from modelport.commands.doctor import doctor
from modelport.errors import ModelportError
from modelport.server import EmbeddedServer

CONFIG = """\
name: "NAME"
backend: "onnxruntime"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: 3 }
output { name: "y" data_type: TYPE_FP32 dims: 3 }
instance_group { count: 1 kind: KIND_AUTO }
version_policy { specific { versions: 1 } }
"""
FLOW = """\
name: "NAME"
platform: "ensemble"
max_batch_size: 8
input { name: "a" data_type: TYPE_FP32 dims: 3 }
output { name: "b" data_type: TYPE_FP32 dims: 3 }
ensemble_scheduling {
  step { model_name: "good" model_version: -1 input_map { key: "x" value: "a" } output_map { key: "y" value: "b" } }
}
version_policy { specific { versions: 1 } }
"""
POLICY = "version_policy { specific { versions: 1 } }\n"


@dataclass(frozen=True, kw_only=True)
class Spoilt:
    """A model that differs from the good one.

    Attributes:
        changes: Old and new text of the configuration.
        add: What is added to it.
        config: The configuration that is changed.
        folders: Folders to make in the model's folder.
        shape: Of the tensors in the ONNX file; None for no file at all.
        files: Files beside the configuration.
        rule: What the doctor says of it; empty for nothing but notes.
    """

    rule: str
    changes: tuple[tuple[str, str], ...] = ()
    add: str = ""
    config: str = CONFIG
    folders: tuple[str, ...] = ()
    shape: tuple[int | str, ...] | None = ("batch", 3)
    files: dict[str, str] = field(default_factory=dict)


# Errors: the server must refuse them.
REFUSED = {
    "name": Spoilt(rule="config-name", changes=(('"NAME"', '"other"'),)),
    "unreadable": Spoilt(rule="config-unreadable", add="nonsense: 1\n"),
    "too_new": Spoilt(rule="config-target", add="model_metrics { metric_control { metric_identifier { } } }\n"),
    "platform": Spoilt(rule="platform-mismatch", add='platform: "pytorch_libtorch"\n'),
    "no_dims": Spoilt(rule="scalar-reshape", changes=(("dims: 3 }\noutput", "}\noutput"),)),
    "zero_dims": Spoilt(rule="tensor-invalid", changes=(("dims: 3 }\noutput", "dims: 0 }\noutput"),)),
    "reshape": Spoilt(rule="tensor-invalid", changes=(("dims: 3 }\nout", "dims: 3 reshape { shape: 4 } }\nout"),)),
    "negative": Spoilt(rule="batch-size", changes=(("size: 8", "size: -1"),)),
    "gpus": Spoilt(rule="instances-invalid", changes=(("KIND_AUTO", "KIND_CPU gpus: 0"),)),
    "preferred": Spoilt(rule="batch-preferred", add="dynamic_batching { preferred_batch_size: 9 }\n"),
    "levels": Spoilt(rule="queue-invalid", add="dynamic_batching { priority_levels: 2 }\n"),
    "ordered": Spoilt(
        rule="queue-invalid",
        add="dynamic_batching { priority_levels: 2 default_priority_level: 1 preserve_ordering: true }\n",
    ),
    "cached": Spoilt(
        rule="response-cache", add="response_cache { enable: true }\nmodel_transaction_policy { decoupled: true }\n"
    ),
    "warmup": Spoilt(
        rule="warmup-file",
        add='model_warmup { name: "w" batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32 dims: 3 '
        'input_data_file: "absent" } } }\n',
    ),
    "labels": Spoilt(rule="labels-missing", changes=(("dims: 3 }\ninst", 'dims: 3 label_filename: "a.txt" }\ninst'),)),
    "unselected": Spoilt(rule="versions-unselected", changes=((POLICY, "version_policy { latest { } }\n"),)),
    # Triton itself loads the others and only logs it; modelport takes that for a failure.
    "absent": Spoilt(rule="policy-absent-version", changes=(("versions: 1", "versions: [ 1, 7 ]"),)),
    "empty": Spoilt(rule="artefact-missing", shape=None),
    "shapes": Spoilt(rule="onnx-tensors", shape=("batch", 4)),
    "fixed": Spoilt(rule="onnx-batch-axis", shape=(1, 3)),
    "tensor": Spoilt(rule="onnx-tensors", changes=(('"y"', '"z"'),)),
    "optional": Spoilt(rule="onnx-tensors", changes=(("dims: 3 }\noutput", "dims: 3 optional: true }\noutput"),)),
    "flow_model": Spoilt(rule="ensemble-model", config=FLOW, changes=(('"good"', '"nowhere"'),)),
    "flow_tensor": Spoilt(rule="ensemble-tensor", config=FLOW, changes=(('key: "x"', 'key: "q"'),)),
    "flow_type": Spoilt(
        rule="ensemble-tensor", config=FLOW, changes=(("FP32 dims: 3 }\nout", "INT32 dims: 3 }\nout"),)
    ),
    "flow_unmade": Spoilt(rule="ensemble-tensor", config=FLOW, changes=(('name: "b"', 'name: "c"'),)),
    "flow_batch": Spoilt(rule="ensemble-batch", config=FLOW, changes=(("size: 8", "size: 9"),)),
    "flow_group": Spoilt(rule="ensemble-invalid", config=FLOW, add="instance_group { count: 1 }\n"),
}
# Nothing, or a warning: the server takes them.
TAKEN = {
    "good": Spoilt(rule=""),
    "flow": Spoilt(rule="", config=FLOW),
    "unnamed": Spoilt(rule="", changes=(('name: "NAME"\n', ""),)),
    "older": Spoilt(rule="", changes=(('backend: "onnxruntime"', 'platform: "onnxruntime_onnx"'),)),
    "guessed": Spoilt(rule="backend-missing", changes=(('backend: "onnxruntime"\n', ""),)),
    "floating": Spoilt(rule="", changes=((POLICY, "version_policy { all { } }\n"),)),
    "ungrouped": Spoilt(rule="instances-missing", changes=(("instance_group { count: 1 kind: KIND_AUTO }\n", ""),)),
    "runtime": Spoilt(rule="runtime-set", add='runtime: "model.py"\n'),
    "pointless": Spoilt(
        rule="batch-pointless",
        changes=(("size: 8", "size: 0"), ("dims: 3", "dims: [ -1, 3 ]")),
        add="dynamic_batching { }\n",
    ),
    "folders": Spoilt(rule="version-word", folders=("configs", "backup")),
    "odd": Spoilt(rule="version-prefix", folders=("3.tmp", "-2", "004")),
    "cache": Spoilt(rule="response-cache", add="response_cache { enable: true }\n"),
    "stray": Spoilt(rule="stray-file", files={"README.md": "x"}),
}


def write(folder: Path, spoilt: Spoilt) -> None:
    (folder / "1").mkdir(parents=True)
    text = spoilt.config
    for old, new in spoilt.changes:
        assert old in text, old
        text = text.replace(old, new)
    (folder / "config.pbtxt").write_text(text.replace("NAME", folder.name) + spoilt.add)
    for name in spoilt.folders:
        (folder / name).mkdir()
    for name, content in spoilt.files.items():
        (folder / name).write_text(content)
    if spoilt.config == CONFIG and spoilt.shape is not None:
        tensors = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, spoilt.shape) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", tensors[:1], tensors[1:])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        (folder / "1" / "model.onnx").write_bytes(made.SerializeToString())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    root = tmp_path_factory.mktemp("doctor") / "model_repository"
    for name, spoilt in {**TAKEN, **REFUSED}.items():
        write(root / name, spoilt)
    with EmbeddedServer(root, http_port=0, grpc_port=0, metrics_port=0, models=["good"]) as running:
        yield running


def findings(server: EmbeddedServer, name: str) -> dict[str, str]:
    """Rule to severity, without notes."""
    found = doctor(server.repository, [name], target="24.10").findings
    return {f.rule: f.severity for f in found if f.severity != "note"}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_called_an_error_is_refused(server, name):
    wanted = "warning" if name == "unselected" else "error"  # a model with nothing but candidates is no mistake
    assert findings(server, name).get(REFUSED[name].rule) == wanted
    with pytest.raises(ModelportError):
        server.load(name)


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_not_called_an_error_loads(server, name):
    found = findings(server, name)
    assert (TAKEN[name].rule in found) if TAKEN[name].rule else found == {}
    assert "error" not in found.values()
    server.load(name)
    assert 1 in server.ready_versions(name)
