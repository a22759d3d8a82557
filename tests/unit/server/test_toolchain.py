"""The backend directory is built once, whole or not at all, also by two processes at once."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from modelport.errors import EnvironmentUnfitError
from modelport.server import checks, model_folder, toolchain

BUILD = """
import sys
from pathlib import Path
from modelport.server import checks, model_folder, toolchain
print(toolchain.build(*checks.check_environment(), cache=Path(sys.argv[1])).backends)
"""


@pytest.fixture(scope="module")
def parts():
    return checks.check_environment()


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_it_holds_the_python_backend_with_its_stub_and_our_backends(parts, tmp_path):
    tools = toolchain.build(*parts, cache=tmp_path, isolated=True)
    shared = [f"modelport_{part}.py" for part in ("config", "cores", "line", "serving", "torch")]
    assert names(tools.backends) == sorted(
        [f"{backend}/{file}" for backend in ("onnxruntime", "pytorch") for file in ("model.py", *shared)]
        + [f"python/{file}" for file in ("libtriton_python.so", "triton_python_backend_utils.py", model_folder.STUB)]
    )
    assert os.access(tools.backends / "python" / model_folder.STUB, os.X_OK)
    assert (tools.libraries[0] / parts[1].name).samefile(parts[1])
    assert not any(tools.empty.iterdir())


def test_a_second_call_finds_it_and_leaves_it_alone(parts, tmp_path):
    first = toolchain.build(*parts, cache=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert toolchain.build(*parts, cache=tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_another_content_gets_another_folder(parts, tmp_path):
    package, libpython = parts
    other = tmp_path / "stub"
    other.write_bytes(package.stub.read_bytes() + b"x")
    first = toolchain.build(package, libpython, cache=tmp_path / "cache")
    second = toolchain.build(replace(package, stub=other), libpython, cache=tmp_path / "cache")
    assert first.backends != second.backends


def test_a_damaged_one_is_built_again(parts, tmp_path):
    tools = toolchain.build(*parts, cache=tmp_path)
    (tools.backends / "onnxruntime" / "model.py").unlink()
    (tools.backends / "python" / model_folder.STUB).write_bytes(b"")
    again = toolchain.build(*parts, cache=tmp_path)
    assert again == tools
    assert (again.backends / "onnxruntime" / "model.py").is_file()
    assert (again.backends / "python" / model_folder.STUB).stat().st_size == parts[0].stub.stat().st_size


def test_two_processes_at_once_get_the_same_whole_folder_and_no_scratch_is_left(tmp_path):
    children = [
        subprocess.Popen([sys.executable, "-c", BUILD, tmp_path], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    outputs = {child.communicate(timeout=60)[0].strip() for child in children}
    assert [child.returncode for child in children] == [0] * 4
    assert len(outputs) == 1
    assert len(names(Path(outputs.pop()))) == 15 + toolchain.NATIVE.is_file()
    assert len(list((tmp_path / "triton").iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_named(parts, tmp_path):
    (tmp_path / "triton").write_text("a file is in the way")
    with pytest.raises(EnvironmentUnfitError, match="cannot be built") as caught:
        toolchain.build(*parts, cache=tmp_path)
    assert "XDG_CACHE_HOME" in caught.value.fix


def test_libpython_is_found_by_its_exact_name(tmp_path):
    assert toolchain.find_libpython([tmp_path], "3.11") is None
    (tmp_path / "libpython3.11.so").touch()
    (tmp_path / "libpython3.12.so.1.0").touch()
    assert toolchain.find_libpython([tmp_path], "3.11") is None
    (tmp_path / "libpython3.11.so.1.0").touch()
    assert toolchain.find_libpython([tmp_path / "absent", tmp_path], "3.11") == tmp_path / "libpython3.11.so.1.0"


def test_the_environment_puts_our_parts_first_and_keeps_the_rest(parts, tmp_path):
    tools = toolchain.build(*parts, cache=tmp_path)
    env = tools.environment({"PATH": "/old", "LD_LIBRARY_PATH": "/old/lib", "OTHER": "1", "OMP_WAIT_POLICY": "ACTIVE"})
    assert env["PATH"] == f"{Path(sys.executable).parent}:/old"
    assert env["LD_LIBRARY_PATH"] == f"{tools.libraries[0]}:{parts[0].libraries}:/old/lib"
    assert env["PYTHONDONTWRITEBYTECODE"] == "1"
    assert (env["OTHER"], env["OMP_WAIT_POLICY"]) == ("1", "ACTIVE")
    assert tools.environment({})["OMP_WAIT_POLICY"] == "PASSIVE"
    assert tools.environment({})["NVIDIA_TF32_OVERRIDE"] == "0", "the tolerances are those of float32"
    assert tools.environment({})["EVENT_EPOLL_USE_CHANGELIST"] == "1"
    assert "EVENT_EPOLL_USE_CHANGELIST" not in tools.environment({"EVENT_EPOLL_USE_CHANGELIST": "0"})
    send = [toolchain.SEND.name] if toolchain.SEND.is_file() else []
    assert tools.environment({"LD_PRELOAD": "own.so"})["LD_PRELOAD"] == ":".join([*send, "own.so"])
    assert (tools.libraries[0] / toolchain.SEND.name).is_file() == bool(send)
    assert tools.environment({})["LD_LIBRARY_PATH"] == f"{tools.libraries[0]}:{parts[0].libraries}"


def test_the_cache_is_where_the_desktop_standard_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert toolchain.cache_folder() == tmp_path / "modelport"
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert toolchain.cache_folder() == Path.home() / ".cache" / "modelport"
