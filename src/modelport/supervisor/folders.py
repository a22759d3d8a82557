"""One look at a folder inside a model's folder: whether it changes, whether it is all there, whether it is a danger."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from pathlib import Path

from modelport.errors import InvalidNameError
from modelport.lifecycle.adopt.files import entries, unfinished
from modelport.repository.manifest import MANIFEST_FILE
from modelport.repository.registry import MODEL_FILES
from modelport.server.model_folder import STUB
from modelport.spec import MAX_VERSION, check_model_name

MAX_MANIFEST_BYTES = 4 << 20
_NUMBER = re.compile(r"\s*([+-]?)([0-9]+)")


def signature(*paths: Path) -> str:
    """What changes with any change below some folders, or of some files: names, sizes, times; no content is read."""
    found: list[str] = []
    for path in paths:
        try:
            found.append(_line(path.name, path.lstat()))
            if path.is_dir() and not path.is_symlink():
                found += sorted(_line(name, status) for name, status in entries(path))
        except OSError as exc:
            found.append(f"{path.name} {exc.errno}")
    return hashlib.sha256("\n".join(found).encode(errors="surrogateescape")).hexdigest()


def missing(folder: Path) -> tuple[str, bool]:
    """What a folder lacks that is being copied in.

    Returns:
        The reason why it is not complete, empty where none is seen; and whether a manifest says that it is.
    """
    try:
        sizes = {name: status for name, status in entries(folder) if not stat.S_ISDIR(status.st_mode)}
    except OSError as exc:
        return f"it cannot be read: {exc.strerror or exc}", False
    copied = [name for name in sizes if any(unfinished(part) for part in name.split("/"))]
    if copied:
        return f"{copied[0]!r} is still being copied", False
    if not sizes:
        return "it holds no file", False
    if MANIFEST_FILE not in sizes or sizes[MANIFEST_FILE].st_size > MAX_MANIFEST_BYTES:
        return "", False
    return _by_manifest(folder, sizes)


def danger(path: Path) -> str:
    """Why a folder or file beside a model's versions must not be where Triton sees it; empty where it may."""
    if path.name == STUB:
        return "Triton would execute it instead of its own program"
    if not path.is_dir():
        return ""
    number = _NUMBER.match(path.name)
    if number and (number[1] or int(number[2][:20]) > MAX_VERSION):
        return "Triton reads its name as a version number that it cannot hold, which can end the server"
    if not path.is_symlink() and os.path.lexists(path / STUB):
        return f"there is a file {STUB} in it, which Triton would execute instead of its own program"
    return ""


def misplaced(path: Path) -> str:
    """Why a model file that lies beside a model's versions is not picked up; empty for anything else."""
    if path.suffix not in MODEL_FILES or not path.is_file():
        return ""
    numbers = [int(p.name) for p in path.parent.iterdir() if p.name.isdecimal() and len(p.name) < len(str(MAX_VERSION))]
    return f"it lies beside the version folders: move it into {path.parent.name}/{max(numbers, default=0) + 1}/"


def no_model(path: Path) -> str:
    """Why something in the repository's root, which is no model, is not picked up; empty where nobody expects it."""
    if path.is_file():
        fits = path.suffix in MODEL_FILES
        return f"it lies in the repository itself: move it into {path.stem}/1/ as model{path.suffix}" if fits else ""
    try:
        versions = path.is_dir() and any(p.name.isdecimal() and p.is_dir() for p in path.iterdir())
        check_model_name(path.name)
    except OSError:
        return ""
    except InvalidNameError as exc:
        return f"its name cannot be a model's: {exc.why}" if versions else ""
    return ""


def _line(name: str, status: os.stat_result) -> str:
    if stat.S_ISDIR(status.st_mode):
        return f"{name}/"
    return f"{name} {status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _by_manifest(folder: Path, sizes: dict[str, os.stat_result]) -> tuple[str, bool]:
    try:
        listed = json.loads((folder / MANIFEST_FILE).read_bytes())["files"]
        wanted = {str(name): int(record["size_bytes"]) for name, record in listed.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{MANIFEST_FILE} cannot be read", False
    for name, size in wanted.items():
        if name not in sizes:
            return f"{MANIFEST_FILE} lists {name!r}, which is not there", False
        if sizes[name].st_size < size:
            return f"{name!r} has {sizes[name].st_size} of {size} bytes", False
    return "", True
