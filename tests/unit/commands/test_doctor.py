"""The verb and the command: exit codes, JSON, tables, repairs, and what is said of our own repository."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import jsonschema
import pytest

from modelport.cli import main
from modelport.commands.doctor import doctor
from modelport.errors import RepositoryError, UsageError
from modelport.repository.doctor.registry import RULES
from modelport.repository.doctor.targets import TARGETS

CONFIG = """\
name: "net"
backend: "mine"
input { name: "x" data_type: TYPE_FP32 dims: 3 }
output { name: "y" data_type: TYPE_FP32 dims: 3 }
instance_group { count: 1 }
version_policy { specific { versions: 1 } }
"""
SCHEMA = {
    "type": "object",
    "required": ["repository", "target", "models", "errors", "warnings", "notes", "findings", "done"],
    "additionalProperties": False,
    "properties": {
        "repository": {"type": "string"},
        "target": {"enum": [target.name for target in TARGETS]},
        "models": {"type": "array", "items": {"type": "string"}},
        "errors": {"type": "integer", "minimum": 0},
        "warnings": {"type": "integer", "minimum": 0},
        "notes": {"type": "integer", "minimum": 0},
        "done": {"type": "array", "items": {"type": "string"}},
        "findings": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["rule", "severity", "model", "path", "line", "what", "why", "fix", "fixable"],
                "additionalProperties": False,
                "properties": {
                    "rule": {"enum": sorted(RULES)},
                    "severity": {"enum": ["error", "warning", "note"]},
                    "line": {"type": ["integer", "null"], "minimum": 1},
                    "fixable": {"type": "boolean"},
                    **{key: {"type": "string"} for key in ("model", "path", "what", "why", "fix")},
                },
            },
        },
    },
}


@pytest.fixture
def net(tmp_path):
    """The folder of the one model, of a backend of somebody's own, that gives notes only."""
    folder = tmp_path / "model_repository" / "net"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(CONFIG)
    (folder / "libtriton_mine.so").touch()
    return folder


@pytest.fixture
def bare(net):
    """The same as a Python model: nothing to note."""
    (net / "config.pbtxt").write_text(CONFIG.replace("mine", "python"))
    (net / "libtriton_mine.so").unlink()
    (net / "1" / "model.py").touch()
    return net


def run(capsys, *words):
    code = main(["doctor", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("target", [target.name for target in TARGETS])
def test_the_sample_repository_has_no_errors(root, target):
    """As it is committed, built or not."""
    report = doctor(root / "model_repository", target=target)
    assert [f for f in report.findings if f.severity == "error"] == []
    assert len(report.models) >= 13


def test_the_committed_files_alone_give_nothing_but_missing_versions(root, tmp_path):
    copy = tmp_path / "model_repository"
    shutil.copytree(root / "model_repository", copy, ignore=shutil.ignore_patterns("[0-9]*"))
    found = {f.rule for f in doctor(copy).findings if f.severity != "note"}
    assert found == {"versions-none"}


def test_exported_versions_have_nothing_to_warn_of(exported):
    """What export publishes, in both formats, with and without a batch axis."""
    for target in TARGETS:
        report = doctor(exported, target=target.name)
        assert [f for f in report.findings if f.severity != "note"] == [] and report.exit_code == 0


def test_exit_codes_are_0_1_and_2(bare, capsys):
    """Notes do not count; an error is more than a warning."""
    folder = bare.parent
    assert run(capsys, "-r", folder)[0] == 0
    (bare / "backup").mkdir()
    assert run(capsys, "-r", folder)[0] == 0, "a note"
    (bare / "003").mkdir()
    assert run(capsys, "-r", folder)[0] == 1
    (bare / ("9" * 20)).mkdir()
    assert run(capsys, "-r", folder)[0] == 2


def test_the_target_decides(bare, capsys):
    text = (bare / "config.pbtxt").read_text()
    (bare / "config.pbtxt").write_text(text + "model_metrics { }\n")
    assert run(capsys, "-r", bare.parent)[0] == 0
    code, out, _ = run(capsys, "-r", bare.parent, "--target", "24.10")
    assert code == 2 and "config-target" in out and "net/config.pbtxt:7" in out


def test_json_follows_its_schema_and_is_all_that_is_printed(net, capsys):
    (net.parent / "\x1b[31mred").mkdir()
    (net / "003").mkdir()
    code, out, err = run(capsys, "-r", net.parent, "--json")
    content = json.loads(out)
    jsonschema.validate(content, SCHEMA)
    assert code == 2 and err == ""
    assert (content["errors"], content["warnings"], content["models"]) == (1, 1, ["net"])
    assert [f["rule"] for f in content["findings"]] == [
        "root-folder", "version-leading-zero", "backend-embedded", "backend-library",
    ]  # fmt: skip


def test_the_table_groups_by_model_and_says_what_to_do_once(bare, capsys):
    for name in ("004", "005"):
        (bare / name).mkdir()
    (bare.parent / "\x1b[31mred").mkdir()
    code, out, _ = run(capsys, "-r", bare.parent)
    assert code == 2 and "\x1b" not in out
    assert "net/004" in out and "net/005" in out and "(repository)" in out
    assert out.count("rename it to the number without zeros") == 1
    assert out.splitlines()[-1].startswith(
        "1 error, 2 warnings, 0 notes in 1 model, checked against the container 26.09"
    )


def test_fix_says_what_it_did_and_looks_again(bare, capsys):
    (bare / "3.tmp").mkdir()
    (bare / "config.pbtxt").write_text(CONFIG.replace("mine", "python").replace("instance_group { count: 1 }\n", ""))
    code, out, _ = run(capsys, "-r", bare.parent, "--fix")
    assert code == 0
    assert "moved net/3.tmp to " in out and "corrected net/config.pbtxt (instances-missing)" in out
    assert "instance_group" in (bare / "config.pbtxt").read_text() and not (bare / "3.tmp").exists()
    report = doctor(bare.parent, fix=True)
    assert report.done == () and report.exit_code == 0


def test_only_the_models_that_are_named_are_looked_at(bare, capsys):
    shutil.copytree(bare, bare.parent / "other")
    assert run(capsys, "net", "-r", bare.parent)[0] == 0
    code, out, _ = run(capsys, "net", "other", "-r", bare.parent)
    assert code == 2 and "config-name" in out


def test_what_is_asked_for_wrongly_is_an_error_with_three_parts(bare, capsys):
    code, out, err = run(capsys, "nothing", "-r", bare.parent)
    assert code == 32 and out == "" and "why:" in err and "do:" in err
    assert run(capsys, "-r", bare.parent / "missing")[0] == 30
    assert run(capsys, "-r", bare.parent, "--target", "1.0")[0] == 2
    with pytest.raises(UsageError):
        doctor(bare.parent, target="")
    with pytest.raises(RepositoryError):
        doctor(bare.parent / "missing", fix=True)
    assert not bare.parent.with_name("missing.state").exists()


WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "keras", "onnx", "onnxruntime", "h5py", "safetensors"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
from modelport.commands.doctor import doctor
print(*sorted({f.rule for f in doctor(sys.argv[1]).findings}))
"""


def test_onnx_files_are_checked_where_onnx_is_not_installed(exported, tmp_path):
    """Nothing of the extra `export` is needed: sizes that differ are found all the same."""
    copy = shutil.copytree(exported, tmp_path / "model_repository")
    path = copy / "scores" / "config.pbtxt"
    path.write_text(path.read_text().replace("dims: 3", "dims: 4"))
    done = subprocess.run([sys.executable, "-c", WITHOUT, str(copy)], capture_output=True, text=True)
    assert done.returncode == 0 and "onnx-tensors" in done.stdout.split(), done.stderr
