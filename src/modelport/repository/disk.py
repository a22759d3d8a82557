"""Writing so that a power cut leaves the old or the new: content is synced before it is renamed, the folder after."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from modelport.errors import RepositoryError


def sync(path: Path) -> None:
    """fsync a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """fsync every file and folder below `folder`, and itself."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def move(source: Path, target: Path) -> None:
    """Rename something that is synced already into place, over a file that is there, and sync both folders."""
    source.replace(target)
    sync(target.parent)
    if source.parent != target.parent:
        sync(source.parent)


def replace_text(path: Path, text: str, *, through: Path) -> None:
    """Replace a file's content in one step.

    Args:
        path: The file; it need not exist.
        text: Its new content.
        through: A folder on the same file system for the file while it is written.
    """
    through.mkdir(parents=True, exist_ok=True)
    temporary = through / f"{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        temporary.write_text(text, encoding="utf-8")
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


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
            why=f"the system said {exc!r}",
            fix="check free space, permissions, and that the repository and its state folder are on one file system",
            path=str(exc.filename or repository),
        ) from exc
