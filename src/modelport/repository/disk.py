"""Writing so that a power cut leaves the old or the new: content is synced before it is renamed, the folder after."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

from modelport.errors import RepositoryError

_SYNC_FILE_RANGE_WRITE = 2


def sync(path: Path) -> None:
    """fsync a file or a folder; an error names it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, str(path)) from exc
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """fsync every file and folder below `folder`, and itself."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def begin_writing(folder: Path) -> None:
    """Let the kernel begin to write what is in a folder's files, without waiting: meanwhile they can be read.

    Only a hint, for speed. A sync must follow.
    """
    begin = getattr(ctypes.CDLL(None), "sync_file_range", None)
    for path in filter(Path.is_file, folder.iterdir()):
        if begin is None:
            return
        descriptor = os.open(path, os.O_RDONLY)
        begin(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, each of them synced into the one above it; nothing where it is there."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync(path.parent)


def move(source: Path, target: Path) -> None:
    """Rename a file that is synced already into place, over one that is there, and sync the folder."""
    source.replace(target)
    sync(target.parent)


def move_folder(source: Path, target: Path) -> None:
    """Rename a folder that is synced already to where nothing is, and sync those above; moved back where that fails."""
    source.rename(target)
    try:
        sync(target.parent)
        sync(source.parent)
    except BaseException:
        target.rename(source)
        raise


def replace_text(path: Path, text: str, *, through: Path) -> None:
    """Replace a file's content in one step.

    Args:
        path: The file; it need not exist.
        text: Its new content.
        through: A folder on the same file system for the file while it is written.
    """
    make_folder(through)
    temporary = through / f"{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        temporary.write_bytes(encode(text))
        with contextlib.suppress(FileNotFoundError):
            temporary.chmod(stat.S_IMODE(path.stat().st_mode))  # whoever may read or write it may do so after
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def decode(content: bytes) -> str:
    """The text of a file, whatever its bytes and its line ends are: `encode` gives the same bytes again."""
    return content.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """The bytes of a text; those that `decode` had no letter for are as they were."""
    return text.encode("utf-8", "surrogateescape")


@contextlib.contextmanager
def errors(repository: Path) -> Iterator[None]:
    """What the disk refuses becomes a `RepositoryError`.

    Raises:
        RepositoryError: An `OSError` came out of the block.
    """
    try:
        yield
    except OSError as exc:
        raise RepositoryError(
            f"{repository} cannot be written: {exc.strerror or exc}",
            why=f"the system said: {exc}",
            fix="check free space, permissions, and that the repository and its state folder are on one file system",
            path=str(exc.filename or repository),
        ) from exc
