"""The command: exit codes, messages in three parts without a traceback, nothing left behind, JSON that parses."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from modelport import _guard
from modelport.cli import main
from modelport.errors import UNEXPECTED_EXIT_CODE, PortTakenError

PROGRAM = Path(sys.executable).parent / "modelport"
DECLARED = ["--input", "x:float32:batch,3"]


@dataclass(frozen=True)
class Said:
    """What a command gave: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    def is_clear_error(self, code: int, *words: str) -> bool:
        """Exit code, three parts, no traceback, and these words."""
        parts = re.search(r"^modelport: .+\n  why: .+\n  do:  .+", self.err, re.MULTILINE)
        assert parts, self.err
        assert "Traceback" not in self.err and self.out == ""
        assert self.code == code, self.err
        assert all(word in self.err for word in words), self.err
        return True


@pytest.fixture
def run(capsys, tmp_path, monkeypatch) -> Callable[..., Said]:
    """`run("list", "--json")`: the command in this process, in an empty folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def act(*argv: Any) -> Said:
        code = main([str(word) for word in argv])
        out, err = capsys.readouterr()
        return Said(code, out, err)

    return act


@pytest.fixture(scope="session")
def good(tmp_path_factory) -> Path:
    """A folder with things to export: net.pt (TorchScript of a Linear), samples.npz, labels.txt."""
    folder = tmp_path_factory.mktemp("good")
    torch.manual_seed(0)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x).softmax(1)

    torch.jit.save(torch.jit.script(Net()), folder / "net.pt")
    safetensors.torch.save_file(torch.nn.Linear(3, 2).state_dict(), folder / "weights.safetensors")
    torch.save(torch.nn.Linear(3, 2).state_dict(), folder / "weights.pt")
    np.savez(folder / "samples.npz", x=np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32))
    (folder / "labels.txt").write_text("cat\ndög\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def repository(good, tmp_path_factory) -> Path:
    """A repository with two versions of `net`; not to be changed."""
    root = tmp_path_factory.mktemp("cli") / "model_repository"
    for _ in range(2):
        assert main(["export", str(good / "net.pt"), "--name", "net", "-r", str(root), *DECLARED]) == 0
    return root


# --- what works ------------------------------------------------------------------------------------------------------


def test_export_publishes_and_shows_the_proof(run, good):
    said = run(
        "export", good / "net.pt", "--name", "net", "--samples", good / "samples.npz", "--labels", good / "labels.txt",
        "--output", "scores", "--max-batch-size", "4", "--instances", "2",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert (
        "published net version 1 (serving: the model's first)" in said.out
        and "scores" in said.out
        and "100.0%" in said.out
    )
    assert said.err.splitlines()[0] == "opening the model" and "Traceback" not in said.err
    assert Path("model_repository/net/scores_labels.txt").read_text() == "cat\ndög\n"
    config = Path("model_repository/net/config.pbtxt").read_text()
    assert "max_batch_size: 4" in config and "count: 2" in config


@pytest.mark.parametrize("weights", ["weights.safetensors", "weights.pt"])
def test_a_factory_and_its_weights_are_exported(run, good, weights, monkeypatch):
    Path("nets.py").write_text("import torch\n\ndef make():\n    return torch.nn.Linear(3, 2)\n")
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    said = run(
        "export",
        "nets:make",
        "--weights",
        good / weights,
        "--name",
        "net",
        *DECLARED,
        "--format",
        "torchscript",
        "--json",
    )
    assert said.code == 0, said.err
    loaded = torch.jit.load(str(Path(json.loads(said.out)["folder"]) / "model.pt"))
    wanted = torch.nn.Linear(3, 2)
    wanted.load_state_dict(
        safetensors.torch.load_file(good / "weights.safetensors") if "safe" in weights else torch.load(good / weights)
    )
    assert torch.equal(loaded(torch.ones(1, 3)), wanted(torch.ones(1, 3)))


SUM = """import torch

class Sum(torch.nn.Module):
    def forward(self, tokens):
        return tokens.sum(dim=1, keepdim=True)

def make():
    return Sum()
"""


def test_what_may_be_filled_up_is_given_as_name_and_number(run, monkeypatch):
    Path("sums.py").write_text(SUM)
    monkeypatch.delitem(sys.modules, "sums", raising=False)
    words = ["export", "sums:make", "--name", "net", "--input", "tokens:int64:batch,time", "--format", "torchscript"]
    said = run(*words, "--pad", "tokens=0", "--json")
    assert said.code == 0, said.err
    folder = Path(json.loads(said.out)["folder"])
    assert json.loads((folder / "manifest.json").read_text())["spec"]["inputs"][0]["pad"] == 0
    for wrong in ("tokens", "tokens=", "tokens=nothing"):
        said = run(*words, "--pad", wrong)
        assert said.code == 2 and f"--pad {wrong!r} cannot be used" in said.err


def test_a_batch_axis_that_was_dropped_is_noted(run, good):
    said = run("export", good / "net.pt", "--name", "net", "--input", "x:float32:4,3")
    assert said.code == 0 and "note: no batch axis: " in said.out


def test_json_is_all_that_goes_to_standard_output(run, good, repository):
    """And nothing at all to standard error."""
    exported = run("export", good / "net.pt", "-n", "net", *DECLARED, "--json")
    listed = run("list", "--json", "-r", repository)
    shown = run("show", "net", "--json", "-r", repository)
    verified = run("verify", "net", "--json", "-r", repository)
    for said in (exported, listed, shown, verified):
        assert said.code == 0 and said.err == ""
    assert json.loads(exported.out)["version"] == 1
    assert json.loads(exported.out)["spec"]["inputs"][0]["name"] == "x"
    assert [(row["version"], row["state"]) for row in json.loads(listed.out)] == [(1, "serving"), (2, "candidate")]
    assert json.loads(shown.out)["row"]["version"] == 1 and "model.pt" in json.loads(shown.out)["manifest"]["files"]
    (one,) = json.loads(verified.out)
    assert one["how"] == "single and batch" and one["comparisons"]["output"]["samples"] == 12


def test_list_show_and_verify_are_readable(run, repository):
    listed = run("list", "-r", repository)
    assert listed.code == 0 and re.search(r"net +1 +serving +torchscript", listed.out)
    shown = run("show", "net/1", "-r", repository)
    assert shown.code == 0
    for word in ("net version 1: serving", "input `x: FP32[3]`", "model.pt", "made with", 'backend: "pytorch"'):
        assert word in shown.out
    verified = run("verify", "net/1", "-r", repository)
    assert verified.code == 0 and re.search(r"net +1 +in process", verified.out)


def test_an_empty_list_is_no_error(run):
    assert run("list", "-r", ".").code == 0
    assert json.loads(run("list", "-r", ".", "--json").out) == []


def test_the_version_and_the_help(run):
    assert re.fullmatch(r"modelport \d+\.\d+\.\d+\S*\n", run("--version").out)
    said = run("export", "--help")
    assert said.code == 0 and "--samples" in said.out


def test_a_variable_takes_the_place_of_an_option_that_is_not_given(run, repository, monkeypatch):
    """Option before variable before default; `--help` names it; one without meaning is told by its name."""
    monkeypatch.setenv("MODELPORT_REPOSITORY", str(repository))
    assert [row["model"] for row in json.loads(run("list", "--json").out)] == ["net", "net"]
    assert json.loads(run("list", "--json", "-r", ".").out) == []
    assert "MODELPORT_REPOSITORY" in run("list", "--help").out
    monkeypatch.setenv("MODELPORT_URL", "ftp://here")
    assert run("infer", "net", "--input", "x=[0]").is_clear_error(2, "ftp")
    monkeypatch.setenv("MODELPORT_HTTP_PORT", "here")
    said = run("serve")
    assert said.code == 2 and "MODELPORT_HTTP_PORT" in said.err


# --- what does not ---------------------------------------------------------------------------------------------------


def pickled(path: Path) -> Path:
    torch.save(torch.nn.Linear(3, 2), path)
    return path


def objects(path: Path) -> Path:
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    return path


def content(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@dataclass(frozen=True)
class At:
    """Where good things are, and where to put bad ones."""

    good: Path
    tmp: Path

    @property
    def net(self) -> list[Any]:
        """What exports well."""
        return [self.good / "net.pt", *DECLARED]


# What is tried -> exit code, arguments after `export --name n`, a word of the message.
BAD_EXPORTS: dict[str, tuple[int, Callable[[At], list[Any]], str]] = {
    "name": (31, lambda at: [*at.net, "-n", "a;id"], "a;id"),
    "name with a path": (31, lambda at: [*at.net, "-n", "../net"], "../net"),
    "output name": (31, lambda at: [*at.net, "-o", "a b"], "a b"),
    "repository path": (31, lambda at: [*at.net, "-r", at.tmp / "a b"], "a b"),
    "missing file": (12, lambda at: ["missing.onnx"], "missing.onnx"),
    "folder": (12, lambda at: [at.tmp], "folder"),
    "empty file": (12, lambda at: [content(at.tmp / "e.onnx", b"")], "empty"),
    "random bytes": (12, lambda at: [content(at.tmp / "r.keras", b"\x01" * 300)], "r.keras"),
    "truncated": (12, lambda at: [content(at.tmp / "t.pt", at.net[0].read_bytes()[:500])], "t.pt"),
    "mislabelled": (12, lambda at: [content(at.tmp / "m.onnx", at.net[0].read_bytes())], "m.onnx"),
    "pickled module": (11, lambda at: [pickled(at.tmp / "p.pt"), *DECLARED], "pickle"),
    "weights of a model file": (2, lambda at: [*at.net, "-w", at.good / "weights.pt"], "--weights"),
    "no such factory": (2, lambda at: ["nowhere.nets:make"], "nowhere.nets:make"),
    "pickled weights": (11, lambda at: ["torch.nn:Identity", *DECLARED, "-w", pickled(at.tmp / "w.pt")], "w.pt"),
    "weights missing": (12, lambda at: ["torch.nn:Identity", *DECLARED, "-w", "w.pt"], "w.pt"),
    "weights misfit": (13, lambda at: ["torch.nn:Identity", *DECLARED, "-w", at.good / "weights.pt"], "weights.pt"),
    "nothing known of the inputs": (14, lambda at: at.net[:1], "--samples"),
    "declaration": (2, lambda at: [at.net[0], "-i", "x:float33:batch,3"], "float33"),
    "example shape": (14, lambda at: [at.net[0], "-i", "x:float32:batch,5"], "mat1 and mat2"),
    "example type": (14, lambda at: [at.net[0], "-i", "x:int64:batch,3"], "same dtype"),
    "input name": (13, lambda at: [at.net[0], "-i", "image:float32:batch,3"], "['x']"),
    "samples missing": (14, lambda at: [at.net[0], "-s", "missing.npz"], "missing.npz"),
    "samples with objects": (14, lambda at: [at.net[0], "-s", objects(at.tmp / "o.npz")], "o.npz"),
    "samples not as declared": (
        14,
        lambda at: [at.net[0], "-s", at.good / "samples.npz", "-i", "x:float32:batch,4"],
        "float32[batch,4]",
    ),
    "labels missing": (2, lambda at: [*at.net, "-l", "missing.txt"], "missing.txt"),
    "labels too few": (2, lambda at: [*at.net, "-l", content(at.tmp / "l.txt", b"one\n")], "1 labels"),
    "labels no text": (2, lambda at: [*at.net, "-l", content(at.tmp / "l.txt", b"\xff\xfe")], "l.txt"),
    "format": (2, lambda at: [*at.net, "-f", "tflite"], "tflite"),
    "format that does not fit": (13, lambda at: [*at.net, "-f", "onnx"], "ONNX"),
    "batch size": (2, lambda at: [*at.net, "-b", "-1"], "-1"),
    "no batch axis": (21, lambda at: [at.net[0], "-i", "x:float32:4,3", "-b", "8"], "batch axis"),
    "repository in the way": (30, lambda at: [*at.net, "-r", content(at.tmp / "r", b"") / "sub"], "sub"),
}


@pytest.mark.parametrize("case", BAD_EXPORTS)
def test_bad_input_to_export_is_one_clear_error_and_leaves_nothing(run, good, tmp_path, case):
    code, arguments, word = BAD_EXPORTS[case]
    said = run("export", "-n", "n", "--json", *arguments(At(good, tmp_path)))
    assert said.is_clear_error(code, word)
    left = [path for path in Path().rglob("*") if path.is_file() and path.name != "lock"]
    assert left == [] and not Path("model_repository").exists()


@pytest.mark.parametrize(
    ("argv", "code", "word"),
    [
        (["verify", "nope"], 32, "nope"),
        (["verify", "net/9"], 33, "1, 2"),
        (["verify", "net/latest"], 31, "latest"),
        (["verify", "net", "--url", "http://127.0.0.1:1", "--timeout", "2"], 51, "127.0.0.1:1"),
        (["verify", "net", "--url", "ftp://here"], 2, "ftp"),
        (["verify", "net", "--url", "http://127.0.0.1:1", "--token-file", "missing"], 2, "missing"),
        (["show", "nope"], 32, "net"),
        (["show", "net/3"], 33, "net"),
        (["serve", "--model", "nope", "--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"], 32, "nope"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_what_is_not_there_is_one_clear_error(run, repository, argv, code, word):
    assert run(*argv, "-r", repository).is_clear_error(code, word)


def test_what_is_no_version_is_none_for_a_caller_too(run):
    assert run("infer", "net", "--version", "003", "--input", "x=[0]").is_clear_error(31, "003")


@pytest.mark.parametrize("argv", [["list"], ["show", "net"], ["verify", "net"], ["serve"]], ids=" ".join)
def test_a_missing_repository_is_one_clear_error(run, argv):
    assert run(*argv, "-r", "nowhere").is_clear_error(30, "nowhere")
    assert list(Path().iterdir()) == []


def test_a_taken_port_is_one_clear_error(run, repository):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = run("serve", "-r", repository, "--http-port", port, "--grpc-port", "0", "--metrics-port", "0")
    assert said.is_clear_error(PortTakenError.exit_code, str(port))


@pytest.mark.parametrize(
    "argv",
    [[], ["nosuch"], ["export"], ["export", "a.onnx"], ["list", "--nope"], ["export", "a", "-n", "b", "-b", "x"]],
)
def test_wrong_usage_has_a_code_of_its_own(run, argv):
    said = run(*argv)
    assert said.code == 2 and "Traceback" not in said.err
    assert "Usage" in said.err + said.out


def test_an_unexpected_error_says_so_and_brings_what_to_report(capsys):
    def fail() -> None:
        raise ZeroDivisionError("half of nothing")

    assert _guard.guarded(fail, program="modelport") == UNEXPECTED_EXIT_CODE == 70
    err = capsys.readouterr().err
    assert "modelport: unexpected ZeroDivisionError: half of nothing" in err
    assert "  why: " in err and "  do:  report it" in err and "Traceback" in err


@pytest.mark.parametrize(
    ("module", "extra"), [("torch", "export"), ("keras.models", "export"), ("pytriton", "server"), ("PIL", "samples")]
)
def test_a_package_of_an_extra_that_is_missing_is_named_with_what_installs_it(capsys, module, extra):
    def fail() -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    code = _guard.guarded(fail, program="modelport")
    assert Said(code, *capsys.readouterr()).is_clear_error(44, f"pip install 'modelport[{extra}]'")


def test_any_other_missing_module_is_a_defect(capsys):
    def fail() -> None:
        raise ModuleNotFoundError("No module named 'modelport.nope'", name="modelport.nope")

    assert _guard.guarded(fail, program="modelport") == UNEXPECTED_EXIT_CODE


def test_an_empty_token_file_is_refused(run, tmp_path):
    (tmp_path / "token").write_text("\n")
    said = run("infer", "net", "-i", "x=[1]", "-u", "http://127.0.0.1:1", "--token-file", tmp_path / "token")
    assert said.is_clear_error(2, "is empty")


def test_nothing_is_made_an_emoji(capsys, run):
    (Path("x") / ":heart:").mkdir(parents=True)
    said = run("export", "x/:heart:", "-n", "net")
    assert ":heart:" in said.err


# --- the program -----------------------------------------------------------------------------------------------------


def program(*argv: Any, cwd: Path) -> Said:
    done = subprocess.run([PROGRAM, *map(str, argv)], cwd=cwd, capture_output=True, text=True, timeout=120)
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("argv", "code", "word"),
    [
        (["list"], 30, "model_repository"),
        (["export", "missing.onnx", "--name", "net"], 12, "missing.onnx"),
        (["infer", "net", "--input", "x=[1]", "--url", "http://127.0.0.1:1"], 51, "127.0.0.1:1"),
    ],
    ids=["list", "export", "infer"],
)
def test_the_program_ends_with_the_errors_code(tmp_path, argv, code, word):
    assert program(*argv, cwd=tmp_path).is_clear_error(code, word)
    assert list(tmp_path.iterdir()) == []


def test_the_program_exports_a_pickle_to_nothing(tmp_path):
    pickled(tmp_path / "net.pt")
    assert program("export", "net.pt", "--name", "net", *DECLARED, cwd=tmp_path).is_clear_error(11, "net.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt"]


def test_ctrl_c_ends_an_export_without_a_trace(tmp_path):
    (tmp_path / "slow.py").write_text("import time\n\ndef net():\n    print('here', flush=True)\n    time.sleep(60)\n")
    process = subprocess.Popen(
        [PROGRAM, "export", "slow:net", "--name", "net"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in err
    assert {path.name for path in tmp_path.iterdir()} <= {"slow.py", "__pycache__"}


def test_output_goes_into_a_pipe_whole(tmp_path, repository):
    """Rows are not cut to a terminal's width, and no colours are written."""
    said = program("list", "-r", repository, cwd=tmp_path)
    assert "torchscript" in said.out and "pytorch" in said.out and "\x1b" not in said.out
