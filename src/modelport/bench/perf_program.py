"""Where perf_analyzer is, and whether it runs: the one that `modelport bench --install` fetched, or one on PATH.

What pip installs by the name perf-analyzer on older systems is an empty package; nothing is ever used in its stead.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from modelport._process import run
from modelport.errors import EnvironmentUnfitError, ProcessError

NAME = "perf_analyzer"
RECEIPT = "installed.json"
INSTALL = "modelport bench --install"
PLACEHOLDER = "0.1.0"  # of the package perf-analyzer; it holds nothing


@dataclass(frozen=True, kw_only=True)
class Program:
    """A perf_analyzer that runs here.

    Attributes:
        path: The program.
        version: What it is, such as `tritonclient 2.50.0`, or what it says of itself.
        sha256: Of the file.
        libraries: Folder with libraries that it needs and the system does not have; None where it has them.
    """

    path: Path
    version: str
    sha256: str
    libraries: Path | None = None

    def environment(self) -> dict[str, str]:
        """The environment variables to run it with."""
        return _environment(self.libraries)


def data_folder() -> Path:
    """Where modelport keeps programs: `$XDG_DATA_HOME/modelport`, or `~/.local/share/modelport`.

    A relative `XDG_DATA_HOME` is ignored, as the standard says.
    """
    base = os.environ.get("XDG_DATA_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "share") / "modelport"


def find(data: Path | None = None, *, path: str | None = None) -> Program:
    """The program that `modelport bench --install` put into the data folder; else the one on PATH.

    Args:
        data: The data folder; by default `data_folder()`.
        path: Folders to look in, as in PATH; by default PATH and the folder of this Python's programs.

    Raises:
        EnvironmentUnfitError: There is none, or it does not run.
    """
    own = (data_folder() if data is None else data) / NAME
    if (own / NAME).is_file():
        return check(own / NAME, libraries=own / "lib", version=str(receipt(own).get("wheel", "")))
    folders = [os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)] if path is None else [path]
    found = shutil.which(NAME, path=os.pathsep.join(folders))
    if found is None:
        raise EnvironmentUnfitError(
            "perf_analyzer is not installed",
            why=_why_missing(),
            fix=f"{INSTALL}",
        )
    return check(Path(found))


def check(path: Path, *, libraries: Path | None = None, version: str = "") -> Program:
    """Start it once.

    Args:
        path: The program.
        libraries: Folder with libraries of ours; it may be missing.
        version: What is known of its version; else it is asked.

    Raises:
        EnvironmentUnfitError: It does not run.
    """
    folder = libraries if libraries is not None and libraries.is_dir() else None
    try:
        words = run([str(path), "--version"], env=_environment(folder), timeout_s=30.0)
    except ProcessError as exc:
        raise EnvironmentUnfitError(
            f"perf_analyzer at {path} does not run", why=exc.why, fix=_repair(exc.output_tail)
        ) from exc
    if "Perf Analyzer" not in words:
        raise EnvironmentUnfitError(
            f"{path} is not perf_analyzer",
            why=f"asked for its version, it says {words.strip()[:200]!r}",
            fix=f"take it off PATH, or let modelport bring its own: {INSTALL}",
        )
    said = re.sub(r"^Perf Analyzer Version *", "", words.strip().splitlines()[-1])
    return Program(
        path=path,
        version=version or said,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        libraries=folder,
    )


def receipt(folder: Path) -> dict[str, Any]:
    """What an installation noted of itself; empty where there is none."""
    try:
        found = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _environment(libraries: Path | None) -> dict[str, str]:
    env: Mapping[str, str] = os.environ
    if libraries is None:
        return dict(env)
    return {**env, "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [str(libraries), env.get("LD_LIBRARY_PATH")]))}


def _why_missing() -> str:
    try:
        empty = metadata.version("perf-analyzer") == PLACEHOLDER
    except metadata.PackageNotFoundError:
        empty = False
    placeholder = f"; the package perf-analyzer {PLACEHOLDER} that pip installed here is an empty placeholder"
    return "it is neither in modelport's data folder nor on PATH" + (placeholder if empty else "")


_PACKAGES = {"libb64.so.0d": "libb64-0d", "libssl.so.3": "libssl3", "libcrypto.so.3": "libssl3", "libz.so.1": "zlib1g"}


def _repair(output: str) -> str:
    missing = re.search(r"loading shared libraries: ([\w.+-]+)", output)
    if missing is None:
        return f"install it anew: {INSTALL}"
    package = _PACKAGES.get(missing[1], f"the package with {missing[1]}")
    return f"apt-get install {package}   (as root), or let modelport bring what it needs: {INSTALL}"
