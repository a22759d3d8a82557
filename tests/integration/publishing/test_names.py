"""Names and paths that a shell or Triton would read in another way: refused in words, and nothing is made for them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from modelport.cli import main
from modelport.commands.assemble import publish_python_model
from modelport.errors import InvalidNameError
from modelport.repository.publish import staged
from modelport.spec import ModelSpec

NOT_VERSIONS = ["3.tmp", "003", "1" * 20, "0", "-1", "+1", "1e3", "a;id", "$(x)", "../x", "a/b", "1" * 300, "\u202e1"]
NOT_MODELS = ["a;id", "$(x)", "../x", "a/b", "x" * 300, "\u202ea", "a\u200bb", "a b", "a\nb", "..", "-x", "`id`", ""]
NOT_PATHS = ["a b", "a;id", "$(x)", "`id`", "a&b", "a\u202eb", "a\nb", "a'b"]
INVALID = 31
SPEC = ModelSpec(name="net", inputs=(), outputs=(), max_batch_size=0)


@pytest.fixture
def here(tmp_path, case, monkeypatch) -> Path:
    """A folder with a repository that holds a version, and the current one."""
    case.restore()
    assert case.run("release", case.repository).code == 0
    shutil.copytree(case.repository, tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    """Every path below a folder, with its size and time."""
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*") if not p.is_dir()}


def refused(capsys, folder: Path, *argv: str) -> str:
    """Run a command that must refuse its arguments; what it said."""
    before, names = everything(folder), sorted(folder.rglob("*"))
    code = main(list(argv))
    out, err = capsys.readouterr()
    assert code in (INVALID, 2) and out == "", (argv, code, err)
    assert "Traceback" not in err and err.strip(), argv
    if code == INVALID:
        assert "  why: " in err and "  do:  " in err
    assert everything(folder) == before and sorted(folder.rglob("*")) == names, argv
    return err


VERBS = ["show", "verify", "adopt", "tag"]


@pytest.mark.parametrize("case", ["a candidate"], indirect=True)
@pytest.mark.parametrize("version", NOT_VERSIONS, ids=lambda text: repr(text)[:12])
def test_what_is_no_version_is_refused_everywhere(here, capsys, version):
    for verb in VERBS:
        refused(capsys, here, verb, f"net/{version}", "-r", "models")
    for verb in ("promote", "rollback"):
        refused(capsys, here, verb, "-r", "models", "--", "net", version)
    refused(capsys, here, "diff", "-r", "models", "--", "net", "1", version)
    refused(capsys, here, "alias", "net", f"stable={version}", "-r", "models")


@pytest.mark.parametrize("case", ["a candidate"], indirect=True)
@pytest.mark.parametrize("name", NOT_MODELS, ids=lambda text: repr(text)[:12])
def test_what_is_no_model_is_refused_everywhere(here, capsys, name):
    refused(capsys, here, "export", "net.onnx", f"--name={name}", "-r", "models")
    for verb in (*VERBS, "promote", "rollback", "prune", "policy"):
        refused(capsys, here, verb, "-r", "models", "--", name)


@pytest.mark.parametrize("name", NOT_PATHS, ids=lambda text: repr(text)[:12])
def test_a_repository_path_that_cannot_be_used_is_refused(tmp_path, capsys, name):
    """Before anything is opened, and anything is made."""
    repository = str(tmp_path / name / "models")
    for words in (["export", "net.onnx", "--name=net"], ["promote", "net"], ["rollback", "net"], ["adopt", "net/1"]):
        assert "shell" in refused(capsys, tmp_path, *words, "-r", repository)


@pytest.mark.parametrize("name", ["3.tmp", "003", "1" * 20])
def test_folders_that_look_like_versions_are_none(tmp_path, publishers, served, name):
    """The next number is the next one of the real versions, and what lies there is left alone."""
    repository = tmp_path / "models"
    assert publishers("release", repository).code == 0
    (repository / "net" / name).mkdir()
    (repository / "net" / name / "model.onnx").write_text("half")
    assert publishers("release", repository).code == 0
    assert sorted(path.name for path in (repository / "net").iterdir() if path.is_dir()) == sorted(["1", "2", name])
    assert (repository / "net" / name / "model.onnx").read_text() == "half"
    shutil.rmtree(repository / "net" / name)
    assert list(served(repository)) == [1]


def test_a_file_that_triton_would_execute_is_refused(tmp_path):
    files = [tmp_path / "model.py", tmp_path / "triton_python_backend_stub"]
    for file in files:
        file.write_text("")
    with pytest.raises(InvalidNameError, match="triton_python_backend_stub") as caught:
        publish_python_model(SPEC, files, example_inputs={}, answers={}, repository=tmp_path / "models")
    assert "execute" in caught.value.why and caught.value.fix
    assert not (tmp_path / "models").exists() and not (tmp_path / "models.state").exists()


def test_a_name_is_refused_by_the_library_as_well(tmp_path):
    for name in NOT_MODELS:
        with pytest.raises(InvalidNameError), staged(tmp_path / "models", name):
            pass
    assert list(tmp_path.iterdir()) == []
