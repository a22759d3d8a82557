"""The kit for a machine without a package registry: what goes into it, and its set-up. Packing all takes minutes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tarfile

import pytest

from modelport.server import toolchain


@pytest.fixture(scope="module")
def kit(root):
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("gpu_kit", root / "scripts" / "gpu_kit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_server_is_packed_with_one_stub_and_without_another_python(kit, tmp_path):
    kit.server(tmp_path, toolchain.PYTHON_VERSION)
    files = toolchain.package_files(tmp_path / "pytriton")
    assert files.server.is_file() and (files.backend / "libtriton_python.so").is_file() and files.stub.is_file()
    assert [folder.name for folder in files.stub.parent.parent.iterdir()] == [toolchain.PYTHON_VERSION]
    assert not list(files.libraries.glob("libpython*")) and list(files.libraries.glob("libtritonserver*"))


def test_a_part_that_is_too_large_is_refused(kit, tmp_path, monkeypatch):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "file").write_bytes(b"x" * 1000)
    kit.archive(tmp_path, ["part"], tmp_path / "small.tar.xz", 0)
    monkeypatch.setattr(kit, "LARGEST_BYTES", 10)
    with pytest.raises(SystemExit, match="is larger than"):
        kit.archive(tmp_path, ["part"], tmp_path / "large.tar.xz", 0)


def set_up(root, tmp_path, version):
    """Run the set-up of a kit that holds nothing but the folder of a Python of this version."""
    kit = tmp_path / "kit"
    (kit / "python" / "lib" / f"python{version}" / "site-packages").mkdir(parents=True)
    with tarfile.open(kit / "python.tar.xz", "w:xz") as archive:
        archive.add(kit / "python", "python")
    for name in ("setup.sh", "run.sh"):
        (kit / name).write_text((root / "scripts" / f"gpu_{name}").read_text())
    command = ["sh", kit / "setup.sh", tmp_path / "target", sys.executable]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_machines_own_packages_come_behind_those_of_the_kit(root, tmp_path):
    set_up(root, tmp_path, toolchain.PYTHON_VERSION)
    site = tmp_path / "target" / "python" / "lib" / f"python{toolchain.PYTHON_VERSION}" / "site-packages"
    lines = (site / "kit.pth").read_text().splitlines()
    assert lines[:2] == [str(tmp_path / "target" / "triton"), str(tmp_path / "target" / "modelport" / "src")]
    assert lines[2:] and set(lines[2:]) <= set(sys.path)


def test_a_python_of_another_version_is_refused(root, tmp_path):
    done = set_up(root, tmp_path, "3.99")
    assert done.returncode != 0
    assert f"is python{toolchain.PYTHON_VERSION}, and the kit's Python is another version" in done.stderr
