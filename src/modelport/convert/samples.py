"""Read a `.npz` of samples: one array for each input, never a pickle."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from modelport.convert.hostile import archives
from modelport.convert.inputs import with_texts
from modelport.convert.types import Arrays
from modelport.errors import ExampleInputError

_ARRAY = b"\x93NUMPY"
UNREADABLE = (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)
"""What numpy raises for a `.npz` that is missing, damaged, or holds objects."""


def read_samples(path: Path) -> Arrays:
    """The arrays in a `.npz` file, in the file's order; strings become Python strings.

    Raises:
        ExampleInputError: It is missing, no `.npz`, or holds Python objects.
        UnsafeSourceError: It is a zip bomb.
    """
    try:
        return with_texts(read_foreign_npz(path))
    except UNREADABLE as exc:
        raise ExampleInputError(
            f"the samples in {path} cannot be read",
            why=(str(exc) or type(exc).__name__).splitlines()[0],
            fix="write them with numpy.savez(path, image=array) with plain arrays, the samples along axis 0",
        ) from exc


def read_foreign_npz(path: Path) -> Arrays:
    """The same as `read_npz` of a file that somebody gave, which may be made to fill the memory.

    Raises:
        ValueError: It is something else, such as a table.
        UnsafeSourceError: It is a zip bomb.
    """
    if path.is_file():
        if zipfile.is_zipfile(path):
            archives.check_zip(path)
        elif not _is_array(path):  # numpy would take it for a pickle, and say so
            raise ValueError("it is no .npz file, or not all of one")
    return read_npz(path)


def _is_array(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ARRAY)) == _ARRAY


def read_npz(path: Path) -> Arrays:
    """The arrays in a `.npz` file as they are; one of `UNREADABLE` when it holds anything else."""
    stored = np.load(path, allow_pickle=False)
    if isinstance(stored, np.ndarray):
        raise ValueError("it is a single array (.npy), without a name")
    with stored:
        arrays = {name: stored[name] for name in stored.files}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name!r} in it is no array")
    return arrays
