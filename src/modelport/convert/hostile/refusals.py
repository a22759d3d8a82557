"""Where in a file something was found, and the two errors that refuse it.

The lowest module of `convert.hostile`: every check builds its message here, so that each names the file, the
member of the archive, the reason, and what to do.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from modelport.errors import SourceFormatError, UnsafeSourceError

FETCH_AGAIN = "copy or download the file again, or save the model again"
ONLY_TRUSTED = "ask whoever made the file for another one; a file that was made like this is never loaded"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A file, or a member of an archive.

    Args:
        path: The file.
        member: Name of the member, empty for the file itself.
    """

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}, member {self.member!r}" if self.member else str(self.path)

    def inside(self, member: str) -> Place:
        """The place of a member of this archive."""
        return replace(self, member=f"{self.member}/{member}" if self.member else member)

    def unsafe(self, found: str, *, why: str, fix: str = ONLY_TRUSTED) -> UnsafeSourceError:
        """The error for something that would run code, or reach outside the file."""
        return UnsafeSourceError(f"{self}: {found}", why=why, fix=fix, path=str(self.path))

    def malformed(self, found: str, *, why: str = "", fix: str = FETCH_AGAIN) -> SourceFormatError:
        """The error for something that is broken, or not what it should be."""
        return SourceFormatError(
            f"{self}: {found}",
            why=why or "the file is cut off or damaged, or another program wrote it",
            fix=fix,
            path=str(self.path),
        )


def regular_file(path: Path) -> int:
    """The size in bytes of an existing, regular, non-empty file, found without opening it.

    Raises:
        SourceFormatError: It is missing, a folder, a pipe or device, or empty.
    """
    place = Place(path=path)
    try:
        found = path.stat()
    except (OSError, ValueError) as exc:
        raise place.malformed("there is no such file", why=str(exc), fix="check the path") from exc
    if stat.S_ISDIR(found.st_mode):
        raise place.malformed(
            "this is a folder",
            why="a model comes as one file; a TensorFlow SavedModel folder cannot be read",
            fix="name the .onnx, .keras, .h5, .pt or .pt2 file itself",
        )
    if not stat.S_ISREG(found.st_mode):
        raise place.malformed(
            "this is a pipe, socket or device", why="a model is read from a file", fix="name a regular file"
        )
    if found.st_size == 0:
        raise place.malformed("the file is empty", why="a download or a copy failed")
    return found.st_size


@contextmanager
def reading(place: Place) -> Iterator[None]:
    """Turn an error of the operating system while reading into one that names the place."""
    try:
        yield
    except OSError as exc:
        raise place.malformed("it cannot be read", why=str(exc), fix="check the file and its permissions") from exc


def words(text: str) -> frozenset[str]:
    """The words of a table that is written as text."""
    return frozenset(text.split())


def load_json(data: bytes, place: Place) -> object:
    """Parse JSON that may be broken, nested without end, or full of giant numbers.

    Raises:
        SourceFormatError: It is not JSON, or nested deeper than the parser goes.
    """
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise place.malformed("this is not readable JSON", why=_first_line(exc)) from exc


def _first_line(exc: BaseException) -> str:
    text = str(exc) or type(exc).__name__
    return text.splitlines()[0][:200]
