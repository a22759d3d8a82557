"""Compiles what is not Python when modelport is built or installed from its sources.

With `c++` (or the program in `CXX`) ONNX models are served inside the server's own process, no answer over HTTP is lost
where hundreds of connections wait for one, and no call over gRPC that is cancelled ends the server. Without a compiler
the package is the same for every system, ONNX models are served by the backend in Python, slower, and Triton answers as
it does; MODELPORT_NATIVE=0 wants that.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SERVER = Path("src/modelport/server")


class Library(NamedTuple):
    """What is made of the sources in a folder.

    Attributes:
        sources: The folder.
        file: The library.
        exports: What of it others see.
    """

    sources: Path
    file: Path
    exports: str


BACKEND = SERVER / "triton_backends" / "onnxruntime"
LIBRARIES = (
    Library(sources=BACKEND / "native", file=BACKEND / "libtriton_onnxruntime.so", exports="TRITONBACKEND_*"),
    Library(sources=SERVER / "native", file=SERVER / "libmodelport_send.so", exports="send; accept4; recvmsg"),
)
# The same sources give the same bytes. Nothing but what Triton calls is visible, so that the server's own copy of the
# C++ library and this one do not mix; the oldest glibc that it loads with is 2.35, that of Triton itself.
COMPILE = ["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections"]
COMPILE += ["-Wall", "-Wextra", "-Wconversion", "-c"]
LINK = ["-shared", "-static-libstdc++", "-static-libgcc", "-Wl,--gc-sections", "-Wl,--strip-all", "-ldl", "-pthread"]


class CustomBuildHook(BuildHookInterface):
    """Hatchling calls it before it packs the files."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and mark the package as one for this system."""
        root = Path(self.root)
        compiler = shlex.split(os.environ.get("CXX", "c++"))
        wanted = os.environ.get("MODELPORT_NATIVE", "1") != "0"
        if not wanted and version != "editable":
            return  # packages hold what is named below alone; what an installation from this folder runs stays
        for library in LIBRARIES:
            (root / library.file).unlink(missing_ok=True)
        if not wanted or not sys.platform.startswith("linux") or shutil.which(compiler[0]) is None:
            return
        for library in LIBRARIES:
            compile_library(compiler, library, root)
            build_data["artifacts"].append(f"/{library.file}")
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def compile_library(compiler: list[str], library: Library, root: Path) -> None:
    """Compile all sources of a library and link them; as many at once as there are cores.

    A library that is there is replaced as a whole: a server that runs with it goes on with the old one.

    Raises:
        SystemExit: The compiler refuses; its own words are above.
    """
    with TemporaryDirectory() as scratch, ThreadPoolExecutor(os.cpu_count()) as pool:

        def one(source: Path) -> str:
            made = Path(scratch, f"{source.stem}.o")
            call([*compiler, *COMPILE, str(source), "-o", str(made)])
            return str(made)

        parts = list(pool.map(one, sorted((root / library.sources).glob("*.cc"))))
        file = root / library.file
        exports, linked = Path(scratch, "exports"), file.with_suffix(".new")
        exports.write_text(f"{{ global: {library.exports}; local: *; }};")
        try:
            call([*compiler, *parts, *LINK, f"-Wl,--version-script={exports}", "-o", str(linked)])
            linked.replace(file)
        finally:
            linked.unlink(missing_ok=True)


def call(command: list[str]) -> None:
    """Run one step of the compiler."""
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        raise SystemExit(
            f"modelport's compiled parts cannot be made here: {exc}\n"
            "It needs a compiler for C++17; CXX names another one. MODELPORT_NATIVE=0 installs modelport without it."
        ) from exc
