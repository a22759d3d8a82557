"""What kind of file is this? By content, whatever the name says, and nothing is loaded to find out."""

from __future__ import annotations

import os
import pickle
import random
import resource
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from modelport.convert.sniff import EXTENSIONS, kind_of
from modelport.errors import SourceError, SourceFormatError, UnsafeSourceError

KINDS = ("onnx", "keras", "h5", "torchscript", "exported_program")


def refusal(path: Path, error: type[SourceError], *words: str) -> str:
    with pytest.raises(error) as caught:
        kind_of(path)
    assert type(caught.value) is error
    assert caught.value.what and caught.value.why and caught.value.fix
    for word in (path.name, *words):
        assert word in str(caught.value), str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_good_files_are_recognised_by_content(samples: dict[str, Path], kind: str) -> None:
    assert kind_of(samples[kind]) == kind


@pytest.mark.parametrize("kind", ["onnx", "torchscript", "exported_program"])
def test_a_name_without_a_known_extension_is_no_hindrance(samples: dict, copied: Callable, kind: str) -> None:
    assert kind_of(copied(samples[kind], "model")) == kind
    assert kind_of(copied(samples[kind], "model.bin")) == kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_says_another_kind_is_refused_and_both_are_said(samples: dict, copied: Callable, kind: str) -> None:
    for extension, named in EXTENSIONS.items():
        path = copied(samples[kind], f"model{extension.upper()}")
        if named == kind:
            assert kind_of(path) == kind
        else:
            what = refusal(path, SourceFormatError).splitlines()[0]
            assert "the content is" in what and "the name says" in what and what.count("model") >= 1


def test_missing_empty_folder_and_pipe_are_format_errors(tmp_path: Path) -> None:
    refusal(tmp_path / "none.onnx", SourceFormatError, "no such file")
    (tmp_path / "empty.onnx").touch()
    refusal(tmp_path / "empty.onnx", SourceFormatError, "empty")
    refusal(tmp_path, SourceFormatError, "folder")
    refusal(tmp_path / ("x" * 5000), SourceFormatError, "no such file")
    os.mkfifo(tmp_path / "pipe.onnx")
    refusal(tmp_path / "pipe.onnx", SourceFormatError, "pipe")  # opening it would wait for ever


def test_a_file_that_cannot_be_opened_is_a_format_error(samples: dict[str, Path]) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))  # no file can be opened
    try:
        refusal(samples["onnx"], SourceFormatError, "cannot be read")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("name", ["a.pt", "a.bin", "a.pkl", "a.onnx", "a.keras", "a.h5", "a.pt2"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_refused_under_any_name_and_does_not_run(
    tmp_path: Path, payload: object, protocol: int, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(pickle.dumps([1, payload], protocol=protocol))
    refusal(path, UnsafeSourceError, "posix.system", "--weights FILE", "never loaded")
    assert not payload.ran()


def test_the_payload_of_these_tests_works(payload: object) -> None:
    pickle.loads(pickle.dumps(payload))
    assert payload.ran()


def test_a_large_pickle_of_text_is_refused(tmp_path: Path, payload: object) -> None:
    (tmp_path / "a.bin").write_bytes(pickle.dumps([payload, "text" * 200_000], protocol=0))
    refusal(tmp_path / "a.bin", UnsafeSourceError, "posix.system")


def test_a_large_file_of_no_kind_is_refused_soon(tmp_path: Path) -> None:
    for byte in b"0N(}\x00\x08\x0a\x3a":
        (tmp_path / "a.bin").write_bytes(bytes([byte]) * (8 << 20))
        start = time.monotonic()
        refusal(tmp_path / "a.bin", SourceFormatError)
        assert time.monotonic() - start < 2


def test_a_pickle_that_is_cut_off_is_refused_as_a_pickle(tmp_path: Path, payload: object) -> None:
    data = pickle.dumps(payload, protocol=2)
    for end in (2, 10, len(data) - 1):
        (tmp_path / "a.pt").write_bytes(data[:end])
        refusal(tmp_path / "a.pt", UnsafeSourceError, "pickle")


@pytest.mark.parametrize("name", ["state_dict", "legacy_state_dict"])
def test_a_state_dict_is_sent_to_weights(samples: dict, copied: Callable, name: str) -> None:
    refusal(copied(samples[name], "a.pt"), UnsafeSourceError, "torch.save", "package.module:factory --weights FILE")


def test_a_pickled_module_is_refused(tmp_path: Path) -> None:
    import torch

    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    refusal(tmp_path / "module.pt", UnsafeSourceError, "torch.jit.save", "never loaded")


@pytest.mark.parametrize("inside", ["model.pkl", "a/b.pickle", "x.joblib"])
def test_a_zip_archive_with_a_pickle_is_refused(tmp_path: Path, payload: object, inside: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme", "hello")
        archive.writestr(inside, pickle.dumps(payload))
    refusal(tmp_path / "a.zip", UnsafeSourceError, inside)
    assert not payload.ran()


def test_safetensors_are_sent_to_weights(samples: dict, copied: Callable) -> None:
    refusal(samples["safetensors"], SourceFormatError, "safetensors", "--weights FILE")
    refusal(copied(samples["safetensors"], "a.onnx"), SourceFormatError, "safetensors")


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (b"\x1f\x8b\x08" + bytes(50), "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>not found</html>", "web page"),
        (b"\x93NUMPY\x01\x00" + bytes(50), "NumPy"),
        (b"hello, world\n", "no known kind"),
        (b"\x00", "no known kind"),
        (b".", "no known kind"),
        (b"\x08\x09", "no known kind"),
        (b"PK\x05\x06" + bytes(18), "empty"),
        (b"PK\x03\x04 and no more", "end record"),
    ],
)
def test_other_content_is_a_format_error_that_says_what_it_is(tmp_path: Path, head: bytes, word: str) -> None:
    (tmp_path / "a.onnx").write_bytes(head)
    refusal(tmp_path / "a.onnx", SourceFormatError, word)


PROGRAM = """
import torch

def make():
    return torch.nn.Linear(4, 3)

def wide(hidden: int = 16, *more) -> torch.nn.Module: ...

def needs(size): ...

def _own(): ...

class Net:
    def inside(): ...
"""


@pytest.mark.parametrize(("text", "names"), [(PROGRAM, "a:make or a:wide"), ("x = 1\n", "a:FUNCTION")])
def test_python_source_is_sent_to_its_functions(tmp_path: Path, text: str, names: str) -> None:
    """Nothing of it is run, or parsed; those that need no arguments are named."""
    (tmp_path / "a.py").write_text(text)
    refusal(tmp_path / "a.py", SourceFormatError, "Python source", f"name the function: {names}, in the folder")


def test_python_source_below_here_is_named_as_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "a.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    assert refusal(Path("nets/a.py"), SourceFormatError).endswith("name the function: nets.a:make or nets.a:wide")


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    dice = random.Random(seed)
    for size in (1, 2, 7, 8, 9, 22, 64, 1_000, 100_000):
        for extension in EXTENSIONS:
            data = dice.randbytes(size)
            path = tmp_path / f"a{extension}"
            path.write_bytes(data)
            with pytest.raises((SourceFormatError, UnsafeSourceError)):  # one in 50,000 begins like a pickle
                kind_of(path)


def test_an_onnx_file_that_is_cut_off_is_said_to_be_one(samples: dict, tmp_path: Path) -> None:
    data = samples["onnx"].read_bytes()
    (tmp_path / "a.onnx").write_bytes(data[: len(data) // 2])
    refusal(tmp_path / "a.onnx", SourceFormatError, "begins like an ONNX model and ends too soon")


def test_sniffing_imports_no_framework() -> None:
    code = (
        "import sys, modelport.convert.sniff, modelport.convert.hostile as h; "
        "print(*{'torch', 'keras', 'onnx', 'h5py', 'pickle5'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
