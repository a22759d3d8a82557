"""What must be true before the embedded server starts; every problem found is reported, not only the first."""

from __future__ import annotations

import importlib.machinery
import os
import platform
import re
import site
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modelport.errors import EnvironmentUnfitError, InvalidNameError, RepositoryError
from modelport.server import toolchain
from modelport.server.toolchain import Package

MIN_GLIBC = (2, 35)
_SAFE_PATH = re.compile(r"[A-Za-z0-9/._-]+")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One reason why the server cannot run here.

    Attributes:
        what: What is wrong, with the value.
        why: Why it matters.
        fix: What to do.
    """

    what: str
    why: str
    fix: str


def check_environment() -> tuple[Package, Path]:
    """Check the machine and the Python environment.

    Returns:
        The files of nvidia-pytriton, and the shared libpython.

    Raises:
        EnvironmentUnfitError: Something is missing; all of it is listed.
    """
    folder = toolchain.package_folder()
    package = toolchain.package_files(folder) if folder else None
    libpython = toolchain.find_libpython()
    problems = [
        numpy_problem(np.__version__),
        glibc_problem(platform.libc_ver()[1]),
        package_problem(package),
        libpython_problem(libpython),
        shadow_problem(_python_path()),
        cache_problem(toolchain.cache_folder()),
    ]
    raise_all(problem for problem in problems if problem)
    assert package is not None and libpython is not None
    return package, libpython


def raise_all(problems: Iterable[Problem]) -> None:
    """Raise one error that lists all problems; nothing when there is none.

    Raises:
        EnvironmentUnfitError: There is at least one.
    """
    found = list(problems)
    if len(found) == 1:
        raise EnvironmentUnfitError(found[0].what, why=found[0].why, fix=found[0].fix)
    if found:
        lines = [f"  {n}. {p.what}\n     why: {p.why}\n     do:  {p.fix}" for n, p in enumerate(found, 1)]
        raise EnvironmentUnfitError(
            "\n".join([f"the embedded server cannot run here, for {len(found)} reasons:", *lines])
        )


def numpy_problem(version: str) -> Problem | None:
    """numpy must be older than 2 where the stub runs, which is this environment."""
    if int(version.split(".")[0]) < 2:
        return None
    return Problem(
        what=f"numpy {version} is installed; the embedded server needs numpy older than 2",
        why="Triton's Python stub reads and writes wrong memory with numpy 2, without any error",
        fix="pip install 'numpy>=1.26,<2' (or 'modelport[server]', which asks for it)",
    )


def glibc_problem(version: str) -> Problem | None:
    """The server's program needs glibc 2.35 or later."""
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    if numbers >= MIN_GLIBC:
        return None
    return Problem(
        what=f"the C library is {'glibc ' + version if version else 'not glibc'}; the embedded server needs glibc 2.35",
        why="the tritonserver program in nvidia-pytriton was built against it",
        fix="use Ubuntu 22.04, Debian 12 or later, or serve the repository with the container",
    )


def package_problem(package: Package | None, python: str = toolchain.PYTHON_VERSION) -> Problem | None:
    """nvidia-pytriton must be installed and have a stub for this Python."""
    if package is None or not package.server.is_file():
        return Problem(
            what="the package nvidia-pytriton is not installed",
            why="it brings the tritonserver program",
            fix="pip install 'modelport[server]'",
        )
    if not package.stub.is_file():
        have = sorted(folder.name for folder in package.stub.parent.parent.glob("3.*"))
        return Problem(
            what=f"nvidia-pytriton has no Python stub for Python {python}",
            why=f"it has stubs for {', '.join(have) or 'no version'}",
            fix="use one of these Python versions",
        )
    return None


def libpython_problem(libpython: Path | None, python: str = toolchain.PYTHON_VERSION) -> Problem | None:
    """The stub links a shared libpython."""
    if libpython is not None:
        return None
    return Problem(
        what=f"there is no shared libpython{python}.so.1.0",
        why="Triton's Python stub links it, and this Python was built without it",
        fix=f"apt-get install libpython{python} (Debian, Ubuntu), or use a Python built with --enable-shared",
    )


def shadow_problem(folders: Sequence[str]) -> Problem | None:
    """No module `model` may be found before the backends' own `model.py`."""
    spec = importlib.machinery.PathFinder.find_spec("model", list(folders))
    if spec is None:
        return None
    return Problem(
        what=f"a Python module named 'model' is on Python's path: {spec.origin or spec.name}",
        why="Triton's Python stub would load it instead of the backend's model.py",
        fix="rename it, or take its folder out of PYTHONPATH",
    )


def cache_problem(folder: Path) -> Problem | None:
    """The cache folder's path reaches a shell."""
    if _SAFE_PATH.fullmatch(str(folder)):
        return None
    return Problem(
        what=f"the cache folder {str(folder)!r} has letters other than A-Z a-z 0-9 / . _ -",
        why="Triton hands the path to a shell",
        fix="set XDG_CACHE_HOME to another folder",
    )


def check_repository(repository: Path) -> Path:
    """The repository's full path, when Triton can be given it.

    Raises:
        RepositoryError: There is no such folder.
        InvalidNameError: The path has letters that are not safe in a shell.
    """
    path = repository.resolve()
    if not path.is_dir():
        raise RepositoryError(
            f"the model repository {str(repository)!r} is not a folder",
            why="it does not exist, or is a file",
            fix="name the folder that holds the models, or export a model first",
            path=str(repository),
        )
    return _safe(path, "repository")


def check_state_folder(state: Path) -> Path:
    """The state folder's full path; the versions that are being tried are in it, so Triton is given it as well.

    Raises:
        InvalidNameError: The path has letters that are not safe in a shell.
    """
    return _safe(state.resolve(), "state folder's")


def _safe(path: Path, word: str) -> Path:
    if _SAFE_PATH.fullmatch(str(path)):
        return path
    raise InvalidNameError(
        f"the {word} path {str(path)!r} cannot be used",
        why="Triton hands it to a shell, so it may hold only A-Z a-z 0-9 / . _ -",
        fix="choose a path without blanks and special letters",
        path=str(path),
        name=str(path),
    )


def _python_path() -> list[str]:
    """Folders in which the stub looks for modules before the backend's own folder."""
    inherited = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    installed = [folder for folder in sys.path if folder in site.getsitepackages() or folder.endswith("-packages")]
    return [folder for folder in (*inherited, *installed) if Path(folder).is_absolute()]
