"""Pack what the embedded server and the benchmark of a GPU need on a machine that reaches no package registry.

    python scripts/gpu_kit.py build/kit --python ~/.pyenv/versions/3.12.1
    on that machine:  sh setup.sh /opt/modelport && /opt/modelport/run benchmarks/gpu.py

The machine brings the GPU's driver and a Python of the same minor version with torch. The kit brings the rest: a Python
with a shared library, numpy 1.26, the server with the one stub that is needed, perf_analyzer, modelport with its
compiled backend, and the few packages that a machine with torch lacks (`--complete`: all but torch). Each part is an
archive of its own below 64 MiB. Run it in an environment with modelport[server], on the same kind of processor.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from modelport.bench import install
from modelport.errors import EnvironmentUnfitError
from modelport.server import toolchain

ROOT = Path(__file__).parent.parent
LARGEST_BYTES = 64 << 20
# Of Python's library: what is there for its own tests, for building it, and for windows on a screen.
LEFT_OUT = ("test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "pydoc_data", "site-packages")
NEEDED = ("numpy==1.26.4", "tritonclient", "grpcio", "python-rapidjson", "protobuf<7", "watchfiles", "psutil")
COMPLETE = ("aiohttp", "rich", "typer<0.29", "jinja2", "prometheus-client", "onnxruntime", *NEEDED)


def python(source: Path, target: Path, version: str) -> Path:
    """Copy a Python without what is never needed; its folder for packages."""
    library = source / "lib" / f"python{version}"
    shared = toolchain.find_libpython([source / "lib"], version)
    if shared is None:
        raise EnvironmentUnfitError(
            f"{source} has no libpython{version}.so.1.0",
            why="the stub of the embedded server links it",
            fix=f"name a Python {version} that was built with --enable-shared, such as uv's",
        )
    shutil.copytree(library, target / "lib" / library.name, ignore=_left_out)
    shutil.copyfile(shared, target / "lib" / shared.name)
    (target / "bin").mkdir()
    shutil.copy2(source / "bin" / f"python{version}", target / "bin")
    for name in ("python3", "python"):
        (target / "bin" / name).symlink_to(f"python{version}")
    for path in (target / "lib" / shared.name, target / "bin" / f"python{version}"):
        subprocess.run(["strip", "--strip-unneeded", path], check=True)
    packages = target / "lib" / library.name / "site-packages"
    packages.mkdir()
    return packages


def _left_out(folder: str, names: list[str]) -> list[str]:
    return [n for n in names if n in LEFT_OUT or n == "__pycache__" or n.startswith("config-") or n.endswith(".pyc")]


def packages(wanted: tuple[str, ...], target: Path, version: str, glibc: int, *, dependencies: bool) -> None:
    """Install wheels for that Python and that machine."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:"]
    command += ["--target", str(target), "--implementation", "cp", "--python-version", version]
    command += [f"--platform=manylinux_2_{n}_x86_64" for n in range(glibc, 4, -1)]
    command += ["--platform=manylinux2014_x86_64", "--platform=manylinux1_x86_64"]
    subprocess.run([*command, *([] if dependencies else ["--no-deps"]), *wanted], check=True)


def server(target: Path, version: str) -> None:
    """Copy the embedded server with one stub, and its libraries without the Python that is of no use here."""
    folder = toolchain.package_folder()
    if folder is None:
        raise EnvironmentUnfitError(
            "nvidia-pytriton is not installed", why="the kit takes the server out of it", fix="pip install '.[server]'"
        )
    files = toolchain.package_files(folder, version)
    (new := toolchain.package_files(target / folder.name, version)).stub.parent.mkdir(parents=True)
    (target / folder.name / "__init__.py").touch()
    shutil.copy2(files.stub, new.stub)
    for before, after in ((files.server.parent, new.server.parent), (files.backend, new.backend)):
        shutil.copytree(before, after, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(files.libraries, new.libraries, ignore=shutil.ignore_patterns("libpython*"))
    for about in folder.parent.glob("nvidia_pytriton-*.dist-info"):
        (target / about.name).mkdir()
        shutil.copy2(about / "METADATA", target / about.name)


def load_generator(target: Path, glibc: int) -> None:
    """Put perf_analyzer there; with the CUDA runtime, which it opens for CUDA shared memory."""
    wheel = install.choose((2, glibc), "x86_64")
    folder = toolchain.package_folder()
    assert folder is not None
    libraries = toolchain.package_files(folder).libraries
    patterns = {**wheel.libraries, "libcudart.so": "libcudart-*.so.12*"}
    found = {name: next(libraries.glob(pattern)) for name, pattern in patterns.items()}
    target.parent.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        install.unpack(install.fetch(wheel, Path(scratch, "wheel")), wheel, found, target)


def sources(target: Path) -> None:
    """Copy modelport's own files, and what was compiled of it."""
    listed = subprocess.run(
        ["git", "ls-files", "src", "benchmarks"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    native = [str(path.relative_to(ROOT)) for path in (toolchain.NATIVE, toolchain.SEND) if path.is_file()]
    for name in (*listed, *native):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True)
    (target / "COMMIT").write_text(commit.stdout)


def archive(folder: Path, names: list[str], path: Path, preset: int) -> None:
    """Pack folders, and say how large that is."""
    with tarfile.open(path, "w:xz", preset=preset) as file:
        for name in names:
            file.add(folder / name, name)
    size = path.stat().st_size
    print(f"{path.name:20} {size / 2**20:6.1f} MiB", flush=True)
    if size > LARGEST_BYTES:
        sys.exit(f"{path} is larger than {LARGEST_BYTES >> 20} MiB")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the kit goes; must not exist")
    parser.add_argument("--python", type=Path, required=True, help="prefix of a Python with a shared library")
    parser.add_argument("--glibc", type=int, default=39, help="the machine's glibc is 2.this; Ubuntu 24.04 has 39")
    parser.add_argument("--complete", action="store_true", help="all packages but torch, for a machine with nothing")
    parser.add_argument("--preset", type=int, default=6, choices=range(10), help="how hard xz tries; 6 takes minutes")
    options = parser.parse_args()
    version = min(path.name.removeprefix("python") for path in (options.python / "lib").glob("python3.*"))
    options.folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        tree = Path(scratch)
        os.environ["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
        site = python(options.python, tree / "python", version)
        wanted = COMPLETE if options.complete else NEEDED
        packages(wanted, site, version, options.glibc, dependencies=options.complete)
        for part in ("torch", "perf_analyzer"):  # never brought along by another package
            shutil.rmtree(site / part, ignore_errors=True)
        (tree / "triton").mkdir()
        server(tree / "triton", version)
        load_generator(tree / "data" / "modelport" / "perf_analyzer", options.glibc)
        sources(tree / "modelport")
        archive(tree, ["python"], options.folder / "python.tar.xz", options.preset)
        archive(tree, ["triton"], options.folder / "triton.tar.xz", options.preset)
        archive(tree, ["data", "modelport"], options.folder / "modelport.tar.xz", options.preset)
    for name in ("gpu_setup.sh", "gpu_run.sh"):
        shutil.copy2(ROOT / "scripts" / name, options.folder / name.removeprefix("gpu_"))


if __name__ == "__main__":
    try:
        main()
    except EnvironmentUnfitError as error:
        sys.exit(str(error))
