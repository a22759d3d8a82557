"""The set-up scripts find what they need, or say what is missing and what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = ("bash", "cat", "dirname", "dpkg-query", "env", "grep", "id", "sh")


@pytest.fixture
def script(root, tmp_path):
    """Runs a script of scripts/ with only TOOLS on PATH; gives the finished process."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS:
        if shutil.which(name):
            (tools / name).symlink_to(shutil.which(name))

    def run(name: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [root / "scripts" / name, *arguments],
            env={"PATH": str(tools), **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    run.tools = tools
    return run


def test_a_named_python_is_taken(script):
    assert script("find_python.sh", PYTHON=sys.executable).stdout.strip() == sys.executable


def test_the_first_fitting_python_on_the_path_is_taken(script):
    """One that is there but does not run, as version managers leave them, is passed over."""
    (script.tools / "python3").write_text("#!/bin/sh\nexit 127\n")
    (script.tools / "python3").chmod(0o755)
    (script.tools / "python3.11").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (script.tools / "python3.11").chmod(0o755)
    assert script("find_python.sh").stdout.strip() == str(script.tools / "python3.11")


@pytest.mark.parametrize(("version", "remade"), [("3.10", True), ("3.11", False)])
def test_a_python_of_another_version_makes_the_environment_anew(root, tmp_path, version, remade):
    """The interpreters are stand-ins that tell a version; the one that is named here also notes what it is asked."""
    (tmp_path / "scripts").mkdir()
    for name in ("setup.sh", "find_python.sh"):
        shutil.copy(root / "scripts" / name, tmp_path / "scripts")
    server = Path("src/modelport/server")
    sources = (server / "triton_backends/onnxruntime/native/model.cc", server / "native/send.cc")
    for name in (*sources, "requirements.lock", "pyproject.toml", "hatch_build.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    compiler = f"{tmp_path}/c++\n"
    wanted = subprocess.run(["sha256sum"], input=compiler, capture_output=True, text=True, check=True).stdout
    (venv / ".installed").write_text(wanted)
    asked = tmp_path / "asked"
    (tmp_path / "c++").write_text("")
    (tmp_path / "c++").chmod(0o755)
    for path, tells in ((venv / "bin" / "python", version), (tmp_path / "python3.11", "3.11")):
        path.write_text(f'#!/bin/sh\n[ "$1" != -m ] || {{ echo "$@" >>{asked}; exit 3; }}\necho {tells}\n')
        path.chmod(0o755)
    env = {**os.environ, "PYTHON": str(tmp_path / "python3.11"), "VENV": str(venv), "CXX": compiler.strip()}
    done = subprocess.run(["bash", "scripts/setup.sh"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, asked.exists()) == ((3, True) if remade else (0, False)), done.stderr
    assert not remade or asked.read_text() == f"-m venv --clear {venv}\n"


@pytest.mark.parametrize(("env", "word"), [({"PYTHON": "/bin/false"}, "PYTHON=/bin/false"), ({}, "no Python 3.10")])
def test_no_fitting_python_is_a_clear_error(script, env, word):
    done = script("find_python.sh", **env)
    assert done.returncode == 1 and word in done.stderr
    assert "  why: " in done.stderr and "  do:  " in done.stderr


def test_installed_packages_need_nothing(script, require):
    require("dpkg-query")
    assert script("debian.sh", "base-files").returncode == 0


def test_packages_that_cannot_be_installed_are_named(script):
    """Here there is no apt-get on the path."""
    done = script("debian.sh", "base-files", "no-such-package", "nor-this-one")
    assert done.returncode == 1
    assert "apt-get install" in done.stderr and "no-such-package nor-this-one" in done.stderr


def test_a_user_without_rights_is_told_what_to_install(script):
    """sudo asks for a password, or is missing."""
    for name, text in {"apt-get": "exit 1", "id": "echo 1000", "sudo": "exit 1"}.items():
        (script.tools / name).unlink(missing_ok=True)
        (script.tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (script.tools / name).chmod(0o755)
    done = script("debian.sh", "no-such-package")
    assert done.returncode == 1 and "needs root" in done.stderr and "apt-get install no-such-package" in done.stderr


def test_this_pythons_shared_library_is_found(script):
    done = script("libpython.sh", sys.executable)
    assert done.returncode == 0, done.stderr


def test_make_alone_lists_the_targets(root, require):
    require("make")
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    done = subprocess.run(["make"], cwd=root, env=env, capture_output=True, text=True, check=True)
    for target in ("setup", "demo", "test", "serve", "bench", "lock"):
        assert f"  make {target} " in done.stdout


def test_shell_scripts_are_executable_and_parse(root):
    for path in [*sorted((root / "scripts").glob("*.sh")), root / ".ci" / "run"]:
        assert os.access(path, os.X_OK), path
        assert Path(path).read_text().startswith("#!/usr/bin/env bash\n")
        subprocess.run(["bash", "-n", path], check=True)
