"""What is built from the tree holds the compiled backend, or does without, and serves from where it was unpacked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import onnx
import pytest
from onnx import TensorProto, helper

FOLDER = "modelport/server/triton_backends/onnxruntime"
LIBRARY = f"{FOLDER}/libtriton_onnxruntime.so"
SEND = "modelport/server/libmodelport_send.so"
SERVES = """
import sys
from pathlib import Path
from modelport.server import EmbeddedServer, toolchain
for library in (toolchain.NATIVE, toolchain.SEND):
    assert library.is_file() and library.is_relative_to(sys.argv[2]), library
with EmbeddedServer(sys.argv[1], http_port=0, grpc_port=0, metrics_port=0) as server:
    print(server.ready_versions("neg"), server.handle.runs_inside("neg"))
"""


@pytest.fixture(scope="module")
def tree(root, tmp_path_factory):
    """A copy of the tracked files that a package is made of: building one begins with removing the compiled library."""
    copy = tmp_path_factory.mktemp("tree")
    names = ["pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "src"]
    listed = subprocess.run(["git", "ls-files", *names], cwd=root, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if (root / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, copy / name)
    return copy


@pytest.fixture
def build(tree, tmp_path):
    """`build("wheel", CXX=...)`: the package that hatchling makes, with these variables."""

    def act(target, **env):
        out = tmp_path / "dist"
        line = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
        done = subprocess.run(line, cwd=tree, env={**os.environ, **env}, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        [made] = out.iterdir()
        return made

    return act


@pytest.fixture
def compiler(root, tmp_path, native):
    """It takes as long as a copy: what it links are the libraries of the tree."""
    path = tmp_path / "c++"
    backend, send = root / "src" / LIBRARY, root / "src" / SEND
    path.write_text(
        "#!/bin/sh\nlinks=; out=\n"
        "while [ $# -gt 0 ]; do case $1 in -shared) links=yes;; -o) out=$2;; esac; shift; done\n"
        '[ -n "$links" ] || exec touch "$out"\n'
        f'case $out in *send*) cp "{send}" "$out";; *) cp "{backend}" "$out";; esac\n'
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def repository(tmp_path):
    """One model, `neg`."""
    folder = tmp_path / "repository" / "neg"
    (folder / "1").mkdir(parents=True)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "neg", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "1" / "model.onnx")
    tensors = "".join(
        f'{w} {{ name: "{n}" data_type: TYPE_FP32 dims: [ 2 ] }}\n' for w, n in (("input", "x"), ("output", "y"))
    )
    (folder / "config.pbtxt").write_text(f'name: "neg"\nbackend: "onnxruntime"\nmax_batch_size: 8\n{tensors}')
    return folder.parent


def test_a_wheel_serves_onnx_models_inside_the_server_from_where_it_was_unpacked(build, compiler, repository):
    made = build("wheel", CXX=str(compiler))
    site = made.parent / "site"
    assert "none-any" not in made.name, "it is for this system"
    zipfile.ZipFile(made).extractall(site)
    line = [sys.executable, "-c", SERVES, str(repository), str(site)]
    env = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(line, cwd=site, env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.split("\n")[0] == "(1,) True", done.stderr


@pytest.mark.parametrize("env", [{"MODELPORT_NATIVE": "0"}, {"CXX": "/nowhere/c++"}], ids=["unwanted", "no-compiler"])
def test_without_a_compiler_the_wheel_is_for_every_system(build, env):
    made = build("wheel", **env)
    names = zipfile.ZipFile(made).namelist()
    assert made.name.endswith("-py3-none-any.whl") and f"{FOLDER}/model.py" in names
    assert not {LIBRARY, SEND} & {*names}


def test_a_package_without_it_leaves_what_is_installed_from_the_folder_alone(build, tree):
    """Whoever builds the controller's image beside a checkout goes on with the compiled backend."""
    installed = tree / "src" / LIBRARY
    installed.write_bytes(b"compiled before")
    try:
        assert LIBRARY not in zipfile.ZipFile(build("wheel", MODELPORT_NATIVE="0")).namelist()
        assert installed.read_bytes() == b"compiled before"
    finally:
        installed.unlink()


def test_the_sources_of_the_backend_are_in_the_source_package(build, root):
    made = build("sdist", MODELPORT_NATIVE="0")
    with tarfile.open(made) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    folders = [root / "src" / FOLDER / "native", root / "src" / "modelport" / "server" / "native"]
    wanted = {path.relative_to(root).as_posix() for folder in folders for path in folder.iterdir()}
    assert {"hatch_build.py", *wanted} <= names
