"""What lies in a version folder that somebody copied in: plain files only, and nothing that a server would run."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from modelport.errors import RepositoryError, UnsafeSourceError
from modelport.server.model_folder import STUB

MAX_ENTRIES = 10_000
MAX_NAME = 128
MAX_DEPTH = 8
_UNFINISHED = re.compile(r"\.~.*|\.rsync-partial|\..+\.[A-Za-z0-9]{6}|.+\.(tmp|part|partial|filepart|crdownload)", re.I)
_LIBRARY = re.compile(r".*\.(so|dll|dylib)(\.[0-9]+)*", re.I)
_PYTHON = re.compile(r".*\.(py|pyc|pyo|pyd|pth|egg|whl)", re.I)
BYTECODE = "__pycache__"


def unfinished(name: str) -> bool:
    """Whether a program that copies uses such a name until it is done, as `.model.onnx.a1B2c3` of rsync."""
    return _UNFINISHED.fullmatch(name) is not None


def entries(folder: Path, *, most: int = MAX_ENTRIES) -> Iterator[tuple[str, os.stat_result]]:
    """Name with `/`, and status, of everything below a folder, `MAX_DEPTH` folders deep; links are not followed.

    Args:
        folder: The folder.
        most: After so many it ends.

    Raises:
        OSError: A folder cannot be read, or went away meanwhile.
    """
    pending = [(folder, "")]
    count = 0
    while pending:
        place, inside = pending.pop()
        with os.scandir(place) as found:
            for entry in found:
                if (count := count + 1) > most:
                    return
                name = f"{inside}{entry.name}"
                yield name, entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False) and name.count("/") < MAX_DEPTH:
                    pending.append((Path(entry.path), f"{name}/"))


def check(folder: Path, *, allow_code: bool = False) -> None:
    """Refuse a version folder in which anything is not a plain file of its own, or is code.

    Args:
        folder: The version folder.
        allow_code: Let `model.py` and what it imports be there: the user vouches for it.

    Raises:
        UnsafeSourceError: A link, a pipe or device, a library or program, or a name that hides something.
        RepositoryError: Something is still being copied, or may not be read, or there are too many files.
    """
    try:
        _check(folder, allow_code=allow_code)
    except PermissionError as exc:
        raise RepositoryError(
            f"{_shown(folder)} may not be read",
            why=f"the system said {exc!r}; this process runs as user {os.geteuid()}",
            fix="give the folder to that user, or let it be read by all: chmod -R a+rX",
            path=str(folder),
        ) from exc


def _check(folder: Path, *, allow_code: bool) -> None:
    for path in (folder, folder.parent):
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise _unsafe(
                path, "this is a link", "what it points to may change after it was checked", "copy the folder"
            )
    count = 0
    for name, status in entries(folder, most=MAX_ENTRIES + 1):
        count += 1
        _check_name(folder / name, allow_code)
        _check_kind(folder / name, status)
        if name.count("/") >= MAX_DEPTH:
            raise _unsafe(
                folder / name, "this lies too deep", f"a version needs no more than {MAX_DEPTH} folders", "move it"
            )
    if count > MAX_ENTRIES:
        raise RepositoryError(
            f"{_shown(folder)} holds more than {MAX_ENTRIES} files",
            why="a version is a model file and a few others",
            fix="leave out what the model does not need",
            path=str(folder),
        )


def _check_name(path: Path, allow_code: bool) -> None:
    name = path.name
    if len(name) > MAX_NAME or not name.isprintable() or "\\" in name:
        raise _unsafe(
            path, "its name cannot be used", "it is very long, or holds letters that are not shown", "rename it"
        )
    if unfinished(name):
        raise RepositoryError(
            f"{_shown(path)} is still being copied",
            why="programs that copy use such a name until they are done; or a copy broke off",
            fix="wait for it, or remove the file",
            path=str(path),
        )
    if name == STUB or _LIBRARY.fullmatch(name):
        why = "Triton would run it instead of its own program" if name == STUB else "Triton looks for libraries here"
        raise _unsafe(path, "this may not be in a version folder", why, "remove it")
    if not allow_code and (_PYTHON.fullmatch(name) or name == BYTECODE):
        raise _unsafe(
            path,
            "this is code",
            "it would run with all rights of the server",
            "remove it; if you trust it: --allow-code",
        )


def _check_kind(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        return
    if not stat.S_ISREG(status.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "a pipe, socket or device"
        raise _unsafe(path, f"this is {what}", "it may be any file of this machine", "copy the file itself")
    if status.st_nlink > 1:
        raise _unsafe(
            path, "this is a hard link", "it may be any file of this machine", "copy it, so that it has one name"
        )


def _unsafe(path: Path, what: str, why: str, fix: str) -> UnsafeSourceError:
    return UnsafeSourceError(f"{_shown(path)}: {what}", why=why, fix=fix, path=str(path))


def _shown(path: Path) -> str:
    """The path from the model's folder on, safe to print."""
    text = "/".join(path.parts[-3:])
    return text if text.isprintable() and len(text) < 200 else ascii(text)[:200]
