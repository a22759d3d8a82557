"""What a move to another release of Triton changes, in repositories with one such thing each, and in one with none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from onnx import TensorProto, helper, save

from modelport.cli import main
from modelport.commands.upgrade_check import upgrade_check
from modelport.errors import RepositoryError, UsageError

CONFIG = """\
name: "net"
backend: "BACKEND"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: 3 }
output { name: "y" data_type: TYPE_FP32 dims: 3 }
instance_group { count: 1 kind: KIND_CPU }
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
dynamic_batching { default_queue_policy { max_queue_size: 64 } }
version_policy { specific { versions: 1 } }
"""
COMPOSE = """\
x-triton: &triton
  image: nvcr.io/nvidia/tritonserver:24.10-py3
  command: [tritonserver, --model-repository=/models, OPTION]
services:
  triton:
    <<: *triton
    deploy: {resources: {reservations: {devices: [{driver: nvidia, count: all, capabilities: [gpu]}]}}}
  db: {image: "postgres:17"}
"""


def onnx_file(path: Path, *, opset: int = 20, ir: int = 10) -> None:
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", tensors[:1], tensors[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir), path)


@pytest.fixture
def make(tmp_path):
    """`make(backend, ...)`: a repository with one model; `change` takes pairs of texts of the configuration."""

    def made(backend: str = "onnxruntime", *change: tuple[str, str], file: str = "model.onnx", **onnx: int) -> Path:
        folder = tmp_path / "models" / "net"
        (folder / "1").mkdir(parents=True)
        text = CONFIG.replace("BACKEND", backend)
        for old, new in change:
            assert old in text
            text = text.replace(old, new)
        (folder / "config.pbtxt").write_text(text)
        onnx_file(folder / "1" / file, **onnx) if file == "model.onnx" else (folder / "1" / file).touch()
        return folder.parent

    return made


def found(repository: Path, since: str, to: str, **options: Path) -> dict[str, str]:
    """What stands in the way, and the notes that are of the model: name to severity."""
    report = upgrade_check(repository, since=since, to=to, **options)
    return {one.id: one.severity for one in report.items if one.severity != "note" or one.model}


def test_nothing_is_in_the_way_of_a_plain_onnx_model(make):
    repository = make()
    assert found(repository, "24.10", "26.09") == {}
    assert upgrade_check(repository, since="24.10", to="26.09").exit_code == 0
    assert upgrade_check(repository).exit_code == 0  # from the embedded server


def test_the_same_release_changes_nothing(make):
    assert upgrade_check(make("tensorflow", file="model.onnx"), since="26.09", to="26.09").items == ()


@pytest.mark.parametrize(
    ("since", "to", "onnx", "rule"),
    [
        ("25.03", "24.10", {"opset": 22}, "onnx-opset"),
        ("26.02", "25.12", {"ir": 13}, "onnx-ir"),
        ("", "24.10", {"opset": 23}, "onnx-opset"),  # the embedded server runs it with the ONNX Runtime that is there
    ],
)
def test_an_operator_set_or_ir_version_that_is_too_new_is_in_the_way(make, since, to, onnx, rule):
    assert found(make(**onnx), since, to)[rule] == "error"


def test_a_later_onnx_runtime_mends_what_was_refused(make):
    report = upgrade_check(make(opset=22), since="24.10", to="25.03")
    assert [(one.kind, one.severity) for one in report.items if one.id == "onnx-opset"] == [("mended", "note")]


@pytest.mark.parametrize(
    ("arguments", "since", "to", "expected"),
    [
        ({"backend": "tensorflow"}, "25.02", "25.03", {"backend-absent": "error"}),
        ({"backend": "python", "file": "model.py"}, "24.10", "24.11", {"python-3.12": "warning"}),
        ({"backend": "tensorrt", "file": "model.plan"}, "26.07", "26.08", {"tensorrt-engines": "error"}),
        ({"backend": "pytorch", "file": "model.pt"}, "26.07", "26.08", {"torchscript": "note"}),
    ],
)
def test_what_a_backend_has_to_expect_is_told(make, arguments, since, to, expected):
    report = found(make(**arguments), since, to)
    assert expected.items() <= report.items()


@pytest.mark.parametrize(
    ("change", "since", "to", "expected"),
    [
        (("dims: 3", "dims: [ 3, 2000, 2000 ]"), "25.05", "25.06", {"http-input-limit": "note"}),
        (
            ('name: "y"', 'name: "y" label_filename: "../labels.txt"'),
            "26.01",
            "26.02",
            {"labels-outside": "error"},
        ),
        (("count: 1 kind: KIND_CPU", "count: 1 kind: KIND_GPU"), "24.12", "25.01", {"compute-capability": "warning"}),
        (("count: 1 kind: KIND_CPU", "count: 1 kind: KIND_GPU"), "25.06", "25.08", {"cuda": "warning"}),
        (
            ("version_policy", 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "e" } }\nversion_policy'),
            "26.05",
            "26.06",
            {"execution-env-paths": "note"},
        ),
    ],
)
def test_what_a_configuration_has_to_expect_is_told(make, change, since, to, expected):
    repository = make("onnxruntime", change)
    assert expected.items() <= found(repository, since, to).items()
    assert not expected.keys() & found(repository, to, to).keys()


def test_a_field_that_an_older_release_does_not_know_is_in_the_way(make):
    metrics = 'model_metrics { metric_control: [ { metric_identifier: { family: "f" } } ] }\nversion_policy'
    repository = make("onnxruntime", ("version_policy", metrics))
    assert found(repository, "26.09", "24.10")["config-target"] == "error"
    assert "config-target" not in found(repository, "26.09", "24.11")


def test_an_ensembles_limit_counts_for_all_its_requests_from_one_release_on(tmp_path):
    folder = tmp_path / "models" / "all"
    (folder / "1").mkdir(parents=True)
    steps = 'ensemble_scheduling { max_inflight_requests: 4 step { model_name: "net" model_version: -1 } }'
    (folder / "config.pbtxt").write_text(f'name: "all"\nplatform: "ensemble"\n{steps}\n')
    assert found(folder.parent, "26.03", "26.04")["inflight-shared"] == "warning"


def test_defects_that_are_mended_are_told_and_a_move_back_brings_them_again(make):
    repository = make()
    there = upgrade_check(repository, since="25.03", to="25.04")
    assert {"grpc-cancel-race", "tracing-crash"} <= {one.id for one in there.items if one.kind == "mended"}
    assert there.exit_code == 0
    back = upgrade_check(repository, since="25.04", to="25.03")
    assert {one.severity for one in back.items if one.id == "tracing-crash"} == {"warning"}


def test_what_is_not_known_is_said_to_be_unknown(make):
    items = upgrade_check(make(), since="26.08", to="26.11").items
    [one] = [one for one in items if one.id == "onnxruntime-unknown"]
    assert one.kind == "unknown" and "1.28.0" in one.why


@pytest.mark.parametrize(
    ("option", "to", "expected"),
    [
        ("--strict-readiness=false", "26.09", {}),
        ("--http-max-input-size=1000000000", "25.05", {"option-unknown": "error"}),
        ("--http-max-input-size=1000000000", "25.06", {}),
        ("--log-verb=1", "26.09", {}),  # tritonserver takes the beginning of a name
        ("--made-up", "26.09", {"option-unknown": "error"}),
        ("--trace-rate=1", "26.09", {"option-deprecated": "note"}),
    ],
)
def test_a_compose_file_tells_the_release_and_its_options_are_compared(make, tmp_path, option, to, expected):
    path = tmp_path / "compose.yml"
    path.write_text(COMPOSE.replace("OPTION", option))
    report = upgrade_check(make(), to=to, compose=path)
    assert report.before.container == "24.10"
    assert {one.id: one.severity for one in report.items if one.id.startswith("option")} == expected
    assert {one.id for one in report.items} >= {"compose-image", "cuda", "compute-capability"}


def test_options_within_a_shells_script_are_compared_too(make, tmp_path):
    path = tmp_path / "compose.yml"
    script = (
        """[sh, -c, 'curl --silent x; exec tritonserver "$$@" --made-up=1', tritonserver, --id=a, --also-made-up]"""
    )
    path.write_text(COMPOSE.replace("[tritonserver, --model-repository=/models, OPTION]", script))
    items = upgrade_check(make(), to="26.09", compose=path).items
    assert [one.what for one in items if one.id == "option-unknown"] == [
        "26.09 has no option --made-up",
        "26.09 has no option --also-made-up",
    ]


def test_with_the_option_for_large_bodies_there_is_nothing_to_say_of_them(make, tmp_path):
    path = tmp_path / "compose.yml"
    path.write_text(COMPOSE.replace("OPTION", "--http-max-input-size=1000000000"))
    repository = make("onnxruntime", ("dims: 3", "dims: [ 3, 2000, 2000 ]"))
    assert "http-input-limit" not in found(repository, "", "25.06", compose=path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("services: {db: {image: postgres}}", "no service"),
        ("a: [", "cannot be read as a compose file"),
        ("services: 3", "cannot be read as a compose file"),
        ("services: {t: {image: nvcr.io/nvidia/tritonserver}}", "does not say which release"),
    ],
)
def test_a_compose_file_that_tells_nothing_is_refused(make, tmp_path, content, words):
    path = tmp_path / "compose.yml"
    path.write_text(content)
    with pytest.raises(UsageError, match=words):
        upgrade_check(make(), compose=path)


def test_without_a_repository_there_is_nothing_to_check(tmp_path):
    with pytest.raises(RepositoryError):
        upgrade_check(tmp_path / "none")


def test_the_command_leaves_with_what_it_found_and_speaks_json(make, capsys):
    repository = make("tensorflow")
    assert main(["upgrade-check", "-r", str(repository), "--from", "25.02", "--to", "25.03", "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert (told["from"]["container"], told["to"]["container"], told["errors"]) == ("25.02", "25.03", 1)
    assert all(one["source"].startswith("https://") for one in told["items"])
    assert main(["upgrade-check", "-r", str(repository), "--from", "25.02", "--to", "25.03"]) == 2
    assert "backend-absent" in capsys.readouterr().out


def test_the_projects_own_compose_file_and_repository_move_nowhere(root, capsys):
    """What is committed is made for the release that it names."""
    words = ["-r", str(root / "model_repository"), "--compose", str(root / "docker-compose.yml")]
    assert main(["upgrade-check", *words]) == 0
    assert "from 26.09" in capsys.readouterr().out
