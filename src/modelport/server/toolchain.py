"""The backend directory of the embedded server, built once and kept in the cache folder.

The package nvidia-pytriton ships the server, Triton's Python backend, and one stub per Python version. Triton wants the
stub beside the backend's library, and our own backends in folders next to it. That directory is built under a temporary
name and renamed, so that two processes may do it at once; its name is a digest of its contents.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelport import _cores
from modelport.errors import EnvironmentUnfitError

BACKENDS = Path(__file__).with_name("triton_backends")
OWN_BACKENDS = ("onnxruntime", "pytorch")
NATIVE = BACKENDS / "onnxruntime" / "libtriton_onnxruntime.so"  # compiled when modelport is installed
SEND = Path(__file__).with_name("libmodelport_send.so")  # likewise; see native/send.cc
# What lies beside each of our backends' `model.py` -> the file that is copied there.
SHARED_MODULES = {
    "modelport_config.py": BACKENDS / "modelport_config.py",
    "modelport_cores.py": Path(_cores.__file__),
    "modelport_line.py": BACKENDS / "modelport_line.py",
    "modelport_serving.py": BACKENDS / "modelport_serving.py",
    "modelport_torch.py": BACKENDS / "modelport_torch.py",
}
CHANGE_LIST = "EVENT_EPOLL_USE_CHANGELIST"
PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, kw_only=True)
class Package:
    """The files of nvidia-pytriton for the running Python.

    Attributes:
        server: The `tritonserver` program.
        backend: Folder with `libtriton_python.so` and its utilities.
        stub: The Python stub for this Python's minor version.
        libraries: Folder with the shared libraries of all of them.
    """

    server: Path
    backend: Path
    stub: Path
    libraries: Path


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """What a server is started with.

    Attributes:
        server: The `tritonserver` program.
        backends: Backend directory.
        libraries: Folders for `LD_LIBRARY_PATH`.
        onnxruntime: ONNX Runtime's library for the compiled backend; None where models run in Python processes.
        empty: An empty folder to run in. The stub puts its working directory first on Python's path.
    """

    server: Path
    backends: Path
    libraries: tuple[Path, ...]
    onnxruntime: Path | None = None
    empty: Path

    @property
    def inside(self) -> tuple[str, ...]:
        """The backends whose models run in the server's own process."""
        return ("onnxruntime",) if self.onnxruntime else ()

    def environment(self, inherited: Mapping[str, str] | None = None) -> dict[str, str]:
        """Environment variables for the server and its stubs.

        The stub finds Python through `PATH`, so the running environment's folder comes first. No bytecode is
        written, but by the stub itself: its interpreter ignores that variable, and a published Python model keeps it
        off in its own way. torch's threads sleep while they wait: when they spin, they take the cores from Triton's
        own threads. On a GPU, TF32 is off: it keeps 10 bits of a float32 product's factors, and the tolerances
        under which a version was published are those of float32. ONNX Runtime keeps its usage data to itself.
        libevent, under Triton's HTTP, gathers what it tells the kernel, which saves a system call for each request; for
        it the variable counts that is there at all, so "0" takes it out. Where it was compiled, a library is preloaded
        that keeps Triton from losing answers over HTTP, and from cancellations over gRPC, which can end it. What
        the server starts does not get it.

        Args:
            inherited: The variables to start from; by default those of this process.
        """
        env = dict(os.environ if inherited is None else inherited)
        env["PATH"] = _joined(Path(sys.executable).parent, env.get("PATH"))
        env["LD_LIBRARY_PATH"] = _joined(*self.libraries, env.get("LD_LIBRARY_PATH"))
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        env.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        env.setdefault("NVIDIA_TF32_OVERRIDE", "0")
        env.setdefault("ORT_DISABLE_TELEMETRY", "1")
        if env.setdefault(CHANGE_LIST, "1") == "0":
            del env[CHANGE_LIST]
        if any((folder / SEND.name).is_file() for folder in self.libraries):
            env["LD_PRELOAD"] = _joined(SEND.name, env.get("LD_PRELOAD"))
        return env


def package_folder() -> Path | None:
    """The installed package nvidia-pytriton; None where it is missing. The package is not imported."""
    spec = importlib.util.find_spec("pytriton")
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def package_files(folder: Path, python: str = PYTHON_VERSION) -> Package:
    """Where the package's files are; they may be missing.

    Args:
        folder: Folder of the package `pytriton`.
        python: Python version such as `3.11`.
    """
    triton = folder / "tritonserver"
    return Package(
        server=triton / "bin" / "tritonserver",
        backend=triton / "backends" / "python",
        stub=triton / "python_backend_stubs" / python / "triton_python_backend_stub",
        libraries=folder.with_name("nvidia_pytriton.libs"),
    )


def libpython_folders() -> list[Path]:
    """Folders in which a shared libpython of the running Python may be."""
    bases = [sysconfig.get_config_var("LIBDIR"), Path(sys.base_prefix, "lib")]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    if multiarch:
        bases += [Path("/usr/lib", multiarch), Path("/lib", multiarch)]
    bases += ["/usr/lib64", "/usr/lib", "/usr/local/lib"]
    return list(dict.fromkeys(Path(base) for base in bases if base))


def find_libpython(folders: list[Path] | None = None, python: str = PYTHON_VERSION) -> Path | None:
    """The shared libpython that the stub links; None where there is none.

    Args:
        folders: Where to look; by default `libpython_folders()`.
        python: Python version such as `3.11`.
    """
    for folder in libpython_folders() if folders is None else folders:
        path = folder / f"libpython{python}.so.1.0"
        if path.is_file():
            return path
    return None


def cache_folder() -> Path:
    """Where modelport keeps what it can build again: `$XDG_CACHE_HOME/modelport`, or `~/.cache/modelport`.

    A relative `XDG_CACHE_HOME` is ignored, as the standard says.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "modelport"


def find_onnxruntime() -> Path | None:
    """The library that the installed package `onnxruntime` ships, for the processor; None where there is none.

    A package with CUDA is left to the backend in Python, which knows how to set it up.
    """
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or not spec.origin:
        return None
    folder = Path(spec.origin).parent / "capi"
    if (folder / "libonnxruntime_providers_cuda.so").exists():
        return None
    return next(iter(sorted(folder.glob("libonnxruntime.so.*"))), None)


def build(package: Package, libpython: Path, cache: Path | None = None, *, isolated: bool = False) -> Toolchain:
    """The toolchain for the running Python; built on the first call, found on later ones.

    Args:
        package: Files of nvidia-pytriton.
        libpython: The shared libpython.
        cache: Cache folder; by default `cache_folder()`.
        isolated: Leave the compiled backend out, so that each instance of a model has a process of its own.

    Raises:
        EnvironmentUnfitError: The cache folder cannot be written.
    """
    runtime = find_onnxruntime() if NATIVE.is_file() and not isolated else None
    files = _plan(package, native=runtime is not None)
    parent = (cache_folder() if cache is None else cache) / "triton"
    target = parent / f"py{PYTHON_VERSION}-{_digest(files, libpython)}"
    try:
        if not _complete(target, files):
            parent.mkdir(parents=True, exist_ok=True)
            _build(parent, target, files, libpython)
    except OSError as exc:
        raise EnvironmentUnfitError(
            f"the backend directory {target} cannot be built",
            why=str(exc),
            fix="make the folder writable, or set XDG_CACHE_HOME to one that is",
        ) from exc
    return Toolchain(
        server=package.server,
        backends=target / "backends",
        libraries=(target / "lib", package.libraries),
        onnxruntime=runtime,
        empty=target / "empty",
    )


def _plan(package: Package, *, native: bool) -> dict[str, Path]:
    """Path in the toolchain -> file to copy."""
    files = {
        f"backends/python/{name}": package.backend / name
        for name in ("libtriton_python.so", "triton_python_backend_utils.py")
    }
    files["backends/python/triton_python_backend_stub"] = package.stub
    for name in OWN_BACKENDS:
        files[f"backends/{name}/model.py"] = BACKENDS / name / "model.py"
        files |= {f"backends/{name}/{shared}": source for shared, source in SHARED_MODULES.items()}
    if native:
        files[f"backends/onnxruntime/{NATIVE.name}"] = NATIVE  # Triton takes it before `model.py`
    if SEND.is_file():
        files[f"lib/{SEND.name}"] = SEND
    return files


def _digest(files: Mapping[str, Path], libpython: Path) -> str:
    digest = hashlib.sha256(str(libpython).encode())
    for name, source in sorted(files.items()):
        digest.update(name.encode() + b"\0" + hashlib.sha256(source.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _complete(target: Path, files: Mapping[str, Path]) -> bool:
    """Whether the toolchain is there and nobody took a part of it away."""
    parts = (target / "lib", target / "empty")
    return all(part.is_dir() for part in parts) and all(
        (target / name).is_file() and (target / name).stat().st_size == source.stat().st_size
        for name, source in files.items()
    )


def _build(parent: Path, target: Path, files: Mapping[str, Path], libpython: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".build-", dir=parent) as scratch:
        new = Path(scratch, "new")
        for name, source in files.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, new / name)
        (new / "backends/python/triton_python_backend_stub").chmod(0o755)
        (new / "empty").mkdir()
        (new / "lib").mkdir(exist_ok=True)
        (new / "lib" / libpython.name).symlink_to(libpython)
        if target.exists() and not _complete(target, files):
            target.rename(Path(scratch, "damaged"))
        try:
            new.rename(target)
        except OSError:
            if not _complete(target, files):  # otherwise another process was faster
                raise


def _joined(*parts: Path | str | None) -> str:
    return os.pathsep.join(str(part) for part in parts if part)
