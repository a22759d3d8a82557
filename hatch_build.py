"""Compiles the backend `onnxruntime` when modelport is built or installed from its sources.

With `c++` (or the program in `CXX`) ONNX models are served inside the server's own process. Without one the package is
the same for every system, and ONNX models are served by the backend in Python, slower. MODELPORT_NATIVE=0 asks for that.
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
COMPILE = ["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-c"]
LINK = ["-shared", "-static-libstdc++", "-static-libgcc", "-Wl,--strip-all", "-ldl", "-pthread"]


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
    """Compile all sources and link them; as many at once as there are cores."""
    with TemporaryDirectory() as scratch, ThreadPoolExecutor(os.cpu_count()) as pool:

        def one(source: Path) -> str:
            made = Path(scratch, f"{source.stem}.o")
            subprocess.run([*compiler, *COMPILE, str(source), "-o", str(made)], check=True)
            return str(made)

        parts = list(pool.map(one, sorted(sources.glob("*.cc"))))
        linked = Path(scratch, library.name)
        subprocess.run([*compiler, *parts, *LINK, "-o", str(linked)], check=True)
        shutil.copyfile(linked, library)
