"""Compiles the backend `onnxruntime` when modelport is built or installed from its sources.

With `c++` (or the program in `CXX`) ONNX models are served inside the server's own process. Without one the package is
the same for every system, and ONNX models are served by the backend in Python, slower; MODELPORT_NATIVE=0 wants that.
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
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("src/modelport/server/triton_backends/onnxruntime")
LIBRARY = "libtriton_onnxruntime.so"
# The same sources give the same bytes. Nothing but what Triton calls is visible, so that the server's own copy of the
# C++ library and this one do not mix; the oldest glibc that it loads with is 2.35, that of Triton itself.
COMPILE = ["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections"]
COMPILE += ["-Wall", "-Wextra", "-Wconversion", "-c"]
LINK = ["-shared", "-static-libstdc++", "-static-libgcc", "-Wl,--gc-sections", "-Wl,--strip-all", "-ldl", "-pthread"]
EXPORTS = "{ global: TRITONBACKEND_*; local: *; };"


class CustomBuildHook(BuildHookInterface):
    """Hatchling calls it before it packs the files."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and mark the package as one for this system."""
        folder = Path(self.root, FOLDER)
        compiler = shlex.split(os.environ.get("CXX", "c++"))
        wanted = os.environ.get("MODELPORT_NATIVE", "1") != "0"
        (folder / LIBRARY).unlink(missing_ok=True)
        if not wanted or not sys.platform.startswith("linux") or shutil.which(compiler[0]) is None:
            return
        compile_backend(compiler, folder / "native", folder / LIBRARY)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["artifacts"].append(f"/{FOLDER / LIBRARY}")


def compile_backend(compiler: list[str], sources: Path, library: Path) -> None:
    """Compile all sources and link them; as many at once as there are cores.

    A library that is there is replaced as a whole: a server that runs with it goes on with the old one.

    Raises:
        SystemExit: The compiler refuses; its own words are above.
    """
    with TemporaryDirectory() as scratch, ThreadPoolExecutor(os.cpu_count()) as pool:

        def one(source: Path) -> str:
            made = Path(scratch, f"{source.stem}.o")
            call([*compiler, *COMPILE, str(source), "-o", str(made)])
            return str(made)

        parts = list(pool.map(one, sorted(sources.glob("*.cc"))))
        exports, linked = Path(scratch, "exports"), library.with_suffix(".new")
        exports.write_text(EXPORTS)
        try:
            call([*compiler, *parts, *LINK, f"-Wl,--version-script={exports}", "-o", str(linked)])
            linked.replace(library)
        finally:
            linked.unlink(missing_ok=True)


def call(command: list[str]) -> None:
    """Run one step of the compiler."""
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        raise SystemExit(
            f"modelport's backend does not compile here: {exc}\n"
            "It needs a compiler for C++17; CXX names another one. MODELPORT_NATIVE=0 installs modelport without it."
        ) from exc
